//! Corpus and sentence scores of translations, equal to sacreBLEU 2.6.

mod bleu;
mod chrf;
mod ngrams;
mod random;
pub mod significance;
mod ter;
mod words;

pub use bleu::{Bleu, BleuScore, Smoothing};
pub use chrf::{Chrf, ChrfScore};
pub use ter::{Ter, TerScore};
pub use words::BleuTokenizer;

use crate::Error;

/// What the `version` field of a signature says: these scores are computed here, not by the
/// sacreBLEU package.
const VERSION: &str = concat!("tfm-", env!("CARGO_PKG_VERSION"));

/// Checks that there is something to score and that every reference has a line for each hypothesis.
fn check_lines<R>(hypotheses: usize, references: &[Vec<R>]) -> Result<(), Error> {
    if hypotheses == 0 || references.is_empty() {
        return Err(Error::NothingToScore);
    }
    match references.iter().position(|reference| reference.len() != hypotheses) {
        Some(stream) => Err(Error::LineCount {
            hypotheses,
            references: references[stream].len(),
            stream: stream + 1,
        }),
        None => Ok(()),
    }
}
