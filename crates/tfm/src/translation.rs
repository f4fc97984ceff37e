//! The results of a translator.

use crate::Alignment;
use tfm_model::generation::Finished;

/// A translated sentence.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Translation {
    /// The best translation.
    pub text: String,
    /// Its log-probability (natural logarithm) divided by its length in tokens to the length
    /// penalty; see [`Options::scores`](crate::Options::scores).
    pub score: f32,
    /// Its tokens, as the vocabulary writes them, with the end token.
    pub tokens: Vec<String>,
    /// Whether it came to its end or was cut off. A blank one is at its end.
    pub finished: Finished,
    /// Which source tokens its tokens attended to, if
    /// [`alignments`](crate::Options::alignments) asks for it; none where the sentence is blank.
    pub alignment: Option<Alignment>,
    /// The next best translations, the better ones first; none unless
    /// [`n_best`](crate::Options::n_best) asks for more than one.
    pub alternatives: Vec<Alternative>,
    /// How many source tokens were cut off at the end because the model has no positions for them.
    pub truncated: usize,
}

/// A translation other than the best one.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Alternative {
    /// The translation.
    pub text: String,
    /// As [`Translation::score`].
    pub score: f32,
    /// As [`Translation::tokens`].
    pub tokens: Vec<String>,
    /// As [`Translation::finished`].
    pub finished: Finished,
    /// As [`Translation::alignment`].
    pub alignment: Option<Alignment>,
}

/// The probability of a given translation.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Score {
    /// The natural logarithm of the translation's probability: the sum over its tokens.
    pub log_probability: f32,
    /// The tokens, as the vocabulary writes them, each with its log-probability given those before
    /// it. The end token is the last.
    pub tokens: Vec<(String, f32)>,
}
