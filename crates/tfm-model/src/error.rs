//! What can go wrong in this crate.

use crate::fault::Fault;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of loading, building, running or writing a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model's files don't make a usable model. Every fault found is listed, not the first alone.
    #[error("{place} holds no usable model: {}", listed(.faults))]
    Checkpoint {
        /// The directory, or the name given to files in memory.
        place: String,
        /// All that is wrong, file by file.
        faults: Vec<Fault>,
    },
    /// A model that cannot be written as asked. Nothing was written.
    #[error("the model cannot be written to {place}: {}", listed(.faults))]
    Export {
        /// The directory that was to be written.
        place: String,
        /// All that stands in the way.
        faults: Vec<Fault>,
    },
    /// A file or a folder could not be written.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Write {
        /// What was tried: "write", "rename" or "make".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// A sequence with more tokens than the model has positions.
    #[error(
        "sequence {id} has {length} tokens, but the model has {limit} positions; split or truncate it"
    )]
    SourceTooLong {
        /// Which sequence.
        id: usize,
        /// Its tokens.
        length: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A token id that the model does not know: the tokeniser belongs to another model.
    #[error(
        "sequence {id} holds token {token}, but the vocabulary has {vocabulary}; use the model's own tokeniser"
    )]
    TokenOutOfVocabulary {
        /// Which sequence.
        id: usize,
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// Options of generation that make no sense.
    #[error(transparent)]
    Generation(#[from] crate::generation::OptionsError),
    /// The model computes numbers that are none.
    #[error(transparent)]
    NotFinite(#[from] crate::generation::NotFinite),
    /// A parameter that the model does not have.
    #[error("the model has no parameter `{name}`")]
    UnknownParameter {
        /// The name asked for.
        name: String,
    },
    /// The engine's.
    #[error(transparent)]
    Engine(Box<tfm_core::Error>),
}

impl From<tfm_core::Error> for Error {
    fn from(error: tfm_core::Error) -> Self {
        Error::Engine(Box::new(error))
    }
}

/// The faults, one a line if there are several.
fn listed(faults: &[Fault]) -> String {
    match faults {
        [one] => one.to_string(),
        many => {
            let lines: String = many.iter().map(|fault| format!("\n  - {fault}")).collect();
            format!("{} faults:{lines}", many.len())
        }
    }
}
