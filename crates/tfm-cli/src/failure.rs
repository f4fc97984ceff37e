//! How a command fails.

use std::io::{self, Write};
use std::process::ExitCode;

/// What a command answers.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command could not do all of its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked for what makes no sense: exit status 2.
    Usage(String),
    /// It failed: exit status 1.
    Work(String),
    /// Nobody reads the results any more: no failure, but the end.
    ReaderGone,
}

impl Failure {
    /// Says it on standard error; the exit status.
    pub(crate) fn report(self) -> ExitCode {
        let (message, status) = match self {
            Failure::Usage(message) => (message, 2),
            Failure::Work(message) => (message, 1),
            Failure::ReaderGone => return ExitCode::SUCCESS,
        };
        // A standard error that is closed can't be told so.
        let _ = writeln!(io::stderr(), "error: {message}");
        ExitCode::from(status)
    }

    /// A failure to write results.
    pub(crate) fn writing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Work(format!("cannot write the results: {error}")),
        }
    }
}

impl From<tfm::Error> for Failure {
    fn from(error: tfm::Error) -> Self {
        match error {
            tfm::Error::Option { .. }
            | tfm::Error::Generation(_)
            | tfm::Error::Text(tfm_text::Error::Option { .. }) => Failure::Usage(error.to_string()),
            _ => Failure::Work(error.to_string()),
        }
    }
}

/// A failure to open or to read an input, or to open an output; the message names it.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Work(error.to_string())
    }
}
