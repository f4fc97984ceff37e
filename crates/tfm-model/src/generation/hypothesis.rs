//! What a search finds.

/// A generated sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without the decoder's start; the end of sequence included if it was generated.
    pub tokens: Vec<u32>,
    /// The sum of log-probabilities divided by the number of generated tokens (the end of sequence
    /// counts, the prefix does not) to the power of the length penalty. This and the probabilities
    /// are 0 in a search that does not need them; see
    /// [`GenerationOptions::scores`](super::GenerationOptions::scores).
    pub score: f32,
    /// The sum of log-probabilities.
    pub log_probability: f32,
    /// Each token's log-probability; 0 for those that were forced.
    pub token_log_probabilities: Vec<f32>,
    /// For each token the live hypothesis, as numbered at its step, whose row predicted it. Whoever
    /// keeps what a step computed (attention weights, say) finds it by this.
    pub beam_indices: Vec<u32>,
    /// Why it has no more tokens.
    pub finished: Finished,
}

/// Why a generated sequence has no more tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Finished {
    /// It has come to an end of sequence.
    #[default]
    End,
    /// It has as many tokens as it may have, and was cut off: also where the settings force an end
    /// of sequence there.
    Length,
}

impl Finished {
    /// `end` or `length`.
    pub fn as_str(self) -> &'static str {
        match self {
            Finished::End => "end",
            Finished::Length => "length",
        }
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
