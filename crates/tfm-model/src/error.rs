//! What can go wrong in this crate.

use crate::fault::Fault;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of loading, building, running or writing a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model's files don't make a usable model. Every fault found is there, not the first alone;
    /// the message has the first twenty.
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
    /// A file of a model could not be written.
    #[error(transparent)]
    Files(#[from] tfm_files::Error),
    /// A sequence with more tokens than the model has positions.
    #[error(
        "a sequence of {length} tokens, but the model has {limit} positions; split or truncate it"
    )]
    SequenceTooLong {
        /// Its tokens.
        length: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A token id that the model does not know: the tokeniser belongs to another model.
    #[error(
        "token {token} is not in the vocabulary, which has {vocabulary} tokens, from 0 on; \
         use the model's own tokeniser"
    )]
    TokenOutOfVocabulary {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// Options of generation that make no sense.
    #[error(transparent)]
    Generation(#[from] crate::generation::OptionsError),
    /// A computation whose result is no number: a model that is damaged, or that needs a type of
    /// numbers with a wider range.
    #[error(
        "{} of the {} numbers that `{}`{} computes are NaN or infinite; \
         the weights are damaged, or overflow in this numeric type",
        .0.elements, .0.shape.elements(), .0.op, in_scope(&.0.scope)
    )]
    NotFinite(Box<tfm_core::NotFinite>),
    /// The options of a request leave no token that may come next.
    #[error(
        "all tokens are banned at some step: suppress_tokens, begin_suppress_tokens, \
         bad_words_ids, the limits on n-grams and the minimum length leave none together; ask for \
         less of them"
    )]
    AllBanned,
    /// A request that its caller cancelled, or that the end of the scheduler did.
    #[error("the request was cancelled")]
    Cancelled,
    /// A request that was not done when nobody waited for it any more.
    #[error("the request's deadline has passed before it was done")]
    DeadlinePassed,
    /// A request that was not taken.
    #[error(transparent)]
    Rejected(#[from] crate::scheduler::Rejection),
    /// A request whose worker has stopped by a fault of the program itself.
    #[error("the worker that had the request has failed; this is a fault of the program")]
    WorkerFailed,
    /// A worker's thread could not be started.
    #[error("cannot start a worker's thread: {0}; ask for fewer threads")]
    Thread(std::io::Error),
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

/// The faults, one a line if there are several, and of many the first.
fn listed(faults: &[Fault]) -> String {
    const SHOWN: usize = 20;
    match faults {
        [one] => one.to_string(),
        many => {
            let shown = many.iter().take(SHOWN).map(|fault| format!("\n  - {fault}"));
            let more = match many.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!("\n  and {more} more"),
            };
            format!("{} faults:{}{more}", many.len(), shown.collect::<String>())
        }
    }
}

fn in_scope(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!(" in {scope}") }
}
