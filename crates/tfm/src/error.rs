//! What can go wrong between a sentence and its translation.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of loading a model or of translating with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device of a name that no backend of this build has.
    #[error("unknown device `{name}`; this build has: {known}")]
    UnknownDevice {
        /// The name.
        name: String,
        /// The names there are.
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
        /// What does not fit, with the numbers.
        problem: String,
    },
    /// A text to be scored that the model has no positions for.
    #[error("a {side} text of {tokens} tokens: the model takes {limit}; split it")]
    TooLong {
        /// "source" or "target".
        side: &'static str,
        /// The text's tokens.
        tokens: usize,
        /// The model's positions.
        limit: usize,
    },
    /// A training that cannot begin, go on or end.
    #[cfg(feature = "training")]
    #[error(transparent)]
    Training(#[from] tfm_train::Error),
    /// A sentence could not be read from where it was to come from.
    #[error(transparent)]
    Input(#[from] std::io::Error),
    /// The tokeniser's files, or a text it can't encode.
    #[error(transparent)]
    Text(#[from] tfm_text::Error),
    /// The checkpoint, or what the model computes from it.
    #[error(transparent)]
    Model(#[from] tfm_model::Error),
}
