//! The errors of this crate.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of loading a model or of translating with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device name that no backend of this build has.
    #[error("unknown device `{name}`; this build has: {known}")]
    UnknownDevice {
        /// The name.
        name: String,
        /// The known names.
        known: &'static str,
    },
    /// An option that makes no sense, alone or with the others.
    #[error("{option}: {problem}")]
    Option {
        /// The option's name in [`Options`](crate::Options).
        option: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// Options of generation that make no sense with this model.
    #[error(transparent)]
    Generation(#[from] tfm_model::generation::OptionsError),
    /// The tokeniser and the configuration of a model directory belong to different models.
    #[error("{problem}")]
    Mismatch {
        /// What does not match, with the numbers.
        problem: String,
    },
    /// A text to score that is longer than the positions of the model.
    #[error("a {side} text of {tokens} tokens: the model takes {limit}; split it")]
    TooLong {
        /// "source" or "target".
        side: &'static str,
        /// The text's tokens.
        tokens: usize,
        /// The model's positions.
        limit: usize,
    },
    /// A training failed.
    #[cfg(feature = "training")]
    #[error(transparent)]
    Training(#[from] tfm_train::Error),
    /// A sentence could not be read from its source.
    #[error(transparent)]
    Input(#[from] std::io::Error),
    /// A file could not be written, or an output is also an input.
    #[error(transparent)]
    Files(#[from] tfm_files::Error),
    /// A fault of the tokeniser's files, or a text that it cannot encode.
    #[error(transparent)]
    Text(#[from] tfm_text::Error),
    /// A fault of the checkpoint, or of a computation with it.
    #[error(transparent)]
    Model(#[from] tfm_model::Error),
}

impl Error {
    /// Whether one text is at fault: others can be translated or scored.
    pub fn is_of_a_text(&self) -> bool {
        use tfm_model::Error::{NotFinite, SequenceTooLong, TokenOutOfVocabulary};
        use tfm_text::Error::{Pipeline, TextTooLong, UnknownLanguage};
        match self {
            Error::TooLong { .. } => true,
            Error::Text(error) => {
                matches!(error, Pipeline { .. } | TextTooLong { .. } | UnknownLanguage { .. })
            }
            Error::Model(error) => {
                matches!(error, NotFinite(_) | SequenceTooLong { .. } | TokenOutOfVocabulary { .. })
            }
            _ => false,
        }
    }
}
