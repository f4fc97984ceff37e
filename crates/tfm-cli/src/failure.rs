//! How the command fails.

use crate::interrupt::INTERRUPTED;
use std::io::{self, Write};
use std::process::ExitCode;

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do all of its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage: exit status 2.
    Usage(String),
    /// The work failed: exit status 1.
    Work(String),
    /// The work is done, but for lines at fault: exit status 3.
    Skipped(String),
    /// The work was interrupted, and can go on from where it is: exit status 130.
    Interrupted(String),
    /// The reader of the results is gone. This is not an error: the command ends with status 0.
    ReaderGone,
}

impl Failure {
    /// Prints the message on standard error, and returns the exit status.
    pub(crate) fn report(self) -> ExitCode {
        let (message, status) = match self {
            Failure::Usage(message) => (message, 2),
            Failure::Work(message) => (message, 1),
            Failure::Skipped(message) => (message, 3),
            Failure::Interrupted(message) => {
                let _ = writeln!(io::stderr(), "{message}");
                return ExitCode::from(INTERRUPTED);
            }
            Failure::ReaderGone => return ExitCode::SUCCESS,
        };
        // If standard error is closed, there is nowhere to report it.
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
            tfm::Error::Files(error) => error.into(),
            tfm::Error::Option { option, problem } => {
                let flag = if option == "beams" { "beam".into() } else { option.replace('_', "-") };
                Failure::Usage(format!("--{flag}: {problem}"))
            }
            tfm::Error::Generation(_) | tfm::Error::Text(tfm_text::Error::Option { .. }) => {
                Failure::Usage(error.to_string())
            }
            _ => Failure::Work(error.to_string()),
        }
    }
}

/// A failure to open or read an input, or to open an output. The message names the file.
impl From<tfm_files::Error> for Failure {
    fn from(error: tfm_files::Error) -> Self {
        match error {
            tfm_files::Error::OutputIsInput { .. } => Failure::Usage(error.to_string()),
            _ => Failure::Work(error.to_string()),
        }
    }
}
