//! Greedy and beam search: which token comes next, and when a sentence is done.
//!
//! A [`Search`] is the state machine of one sentence. It knows neither graph nor backend: at each
//! step it is shown the most probable next tokens of its live hypotheses and says which hypotheses
//! live on, so that one batch can drive the searches of many sentences, each at its own step.
//!
//! Tokens and scores are those of `generate` of Hugging Face `transformers` 5, for greedy search
//! ([`SearchOptions::beams`] = 1) and beam search. Two things are left open there and settled here:
//! of two candidates with the same score the one of the better hypothesis wins, then the more
//! probable token, then the lower id; and where fewer continuations exist than beams, there are
//! fewer hypotheses, while `transformers` fills up with copies scored -10⁹.

mod defaults;
mod history;
mod options;
mod processors;
mod ranking;
mod state;

pub use options::{EarlyStopping, SearchError, SearchOptions, static_bans};
pub use state::{Advance, Hypothesis, Search};
