//! The state of a training besides its tensors.

use crate::config::Metric;
use crate::data::Position;
use serde::{Deserialize, Serialize};

/// The state of a training besides its tensors. Random numbers have no state: they follow from the
/// seed and the update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Updates done.
    pub step: u64,
    /// The position in the data of the next batch.
    pub position: Position,
    /// The seed that the training began with.
    pub seed: u64,
    /// [`Pairs::fingerprint`](crate::data::Pairs::fingerprint) of the data.
    pub data: u32,
    /// Source and target tokens learnt from.
    pub tokens: u64,
    /// Seconds of work.
    pub seconds: f64,
    /// The validation scores that decide which weights are the best, in their order.
    pub scores: Vec<Score>,
    /// The configuration file as it was written.
    pub config: String,
    /// The version of the program that wrote it.
    pub program: String,
}

/// A validation score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The update after which it was taken.
    pub step: u64,
    /// Its value, which is finite.
    pub score: f64,
}

impl State {
    /// The best score; the first of equal ones.
    pub fn best(&self, metric: Metric) -> Option<Score> {
        let mut best: Option<Score> = None;
        for &score in &self.scores {
            if best.is_none_or(|best| metric.is_better(score.score, best.score)) {
                best = Some(score);
            }
        }
        best
    }

    /// How many scores there were since the best one.
    pub fn since_best(&self, metric: Metric) -> usize {
        let best = self.best(metric);
        self.scores.iter().rev().take_while(|score| Some(**score) != best).count()
    }
}
