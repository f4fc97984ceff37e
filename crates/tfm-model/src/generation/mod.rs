//! Generation: which token comes next, and when a sequence is done.
//!
//! A [`Search`] is the state machine of one sequence. It knows neither graph nor backend: before
//! each step it says what it [needs](Search::needs) to be shown of the rows of its live hypotheses,
//! and after it which hypotheses live on, so that one batch can drive the searches of many
//! sequences, each at its own step.
//!
//! Tokens and scores are those of `generate` of Hugging Face `transformers` 5, for greedy search
//! ([`GenerationOptions::num_beams`] = 1) and beam search. Two things are left open there and
//! settled here: of two candidates with the same score the one of the better hypothesis wins, then
//! the more probable token, then the lower id; and where fewer continuations exist than beams,
//! there are fewer hypotheses, while `transformers` fills up with copies scored -10⁹.

mod history;
mod hypothesis;
mod needs;
mod options;
mod pick;
mod processors;
mod ranking;
mod search;
mod settled;
#[cfg(test)]
mod tests;
mod validate;

pub use hypothesis::{Finished, Hypothesis};
pub use needs::{DeeperRow, Needs, Output, Rows, StepFault};
pub use options::{EarlyStopping, GenerationOptions, static_bans};
pub use search::{Advance, Search, SearchInput};
pub use settled::Settled;
pub use validate::OptionsError;
