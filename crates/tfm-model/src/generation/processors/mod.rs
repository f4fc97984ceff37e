//! What changes a row of log-probabilities before a token is picked, as the logits processors of
//! `transformers` do: each is a value that says, of what a hypothesis has so far, which tokens it
//! changes and how. What a search has to be shown follows from that: a change that only lowers a
//! token takes one candidate more, a change that may raise one takes the whole row.

mod banned;
mod bias;
mod decay;
mod edits;
mod ngrams;
mod repetition;
mod row;
mod suppressed;

use super::options::GenerationOptions;
pub(super) use edits::{Change, Edits};
pub(super) use row::{RENORMALISING_MARGIN, RowRules};
use std::fmt::Debug;

/// One rule.
pub(super) trait Processor: Debug + Send + Sync {
    /// Adds what changes for the token that follows `past`.
    fn edit(&self, past: &Past, edits: &mut Edits);
}

/// The tokens of a hypothesis.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// In their order, the decoder's start token first.
    pub(super) tokens: Vec<u32>,
    /// Each once, ascending.
    pub(super) seen: Vec<u32>,
}

impl Past {
    pub(super) fn new(start: u32) -> Self {
        Past { tokens: vec![start], seen: vec![start] }
    }

    pub(super) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        if let Err(place) = self.seen.binary_search(&token) {
            self.seen.insert(place, token);
        }
    }
}

/// The rules that `options` ask for, in the order in which `transformers` applies them, for a
/// `source` with these tokens.
pub(super) fn processors(options: &GenerationOptions, source: &[u32]) -> Vec<Box<dyn Processor>> {
    let all = [
        bias::sequences(options),
        repetition::of_source(options, source),
        repetition::of_past(options),
        ngrams::of_past(options),
        ngrams::of_source(options, source),
        banned::sequences(options),
        decay::of_end(options),
        suppressed::at_the_beginning(options),
    ];
    all.into_iter().flatten().collect()
}
