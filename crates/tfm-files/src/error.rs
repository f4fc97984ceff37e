//! The errors of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of reading text or of writing a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input cannot be opened.
    #[error("cannot read {name}: {source}")]
    Open {
        /// The input's name: its path, or "standard input".
        name: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// An input ends with a failure, such as compressed data that are cut off.
    #[error("{name}, line {line}: {source}{}", cut_off(source))]
    Read {
        /// The input's name.
        name: String,
        /// The line that could not be read, counted from 1.
        line: u64,
        /// What the operating system or the decompressor says.
        source: io::Error,
    },
    /// A line is at fault. The lines after it can be read.
    #[error("{name}, line {line}: {problem}")]
    Line {
        /// The input's name.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// Two files that are read together have not as many lines.
    #[error(
        "{shorter} ends before line {line}, and {longer} does not: line n of one must belong to \
         line n of the other"
    )]
    Uneven {
        /// The name of the shorter input.
        shorter: String,
        /// The name of the longer input.
        longer: String,
        /// The first line that only the longer one has, counted from 1.
        line: u64,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// An output is also an input.
    #[error(
        "{} is also an input ({}): it would be lost. Write to another name", output.display(),
        input.display()
    )]
    OutputIsInput {
        /// The output, as it was named.
        output: PathBuf,
        /// The input, as it was named.
        input: PathBuf,
    },
    /// Another process works in a folder.
    #[error("{} is in use by another process: wait for its end, or name another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

fn cut_off(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => "; the file is cut off: fetch it again",
        _ => "",
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on the disk",
        _ => "",
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// It is longer than may be.
    #[error("longer than {most} bytes; split it")]
    TooLong {
        /// The most bytes of a line.
        most: u64,
    },
    /// It is not UTF-8.
    #[error("not UTF-8: byte {byte:#04x} at column {column}; convert it first{hint}")]
    NotUtf8 {
        /// The first byte that cannot be.
        byte: u8,
        /// The place of this byte in the line, counted from 1.
        column: usize,
        /// What the file may be instead, in brackets.
        hint: &'static str,
    },
    /// A column that is needed is not there.
    #[error("no column {column} (counted from 1): there are {found}, separated by tabs")]
    NoColumn {
        /// The column, counted from 1.
        column: usize,
        /// How many columns there are.
        found: usize,
    },
}

impl Error {
    /// Whether it is a fault of one line: those after it can be read.
    #[must_use]
    pub fn is_of_a_line(&self) -> bool {
        matches!(self, Error::Line { .. })
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Error::Write { path: path.into(), source }
    }
}

/// So that an iterator of lines can be passed on where the standard library's are taken.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Open { source, .. }
            | Error::Read { source, .. }
            | Error::Write { source, .. } => source.kind(),
            Error::Line { .. } | Error::Uneven { .. } => io::ErrorKind::InvalidData,
            Error::OutputIsInput { .. } => io::ErrorKind::InvalidInput,
            Error::InUse { .. } => io::ErrorKind::WouldBlock,
        };
        io::Error::new(kind, error)
    }
}
