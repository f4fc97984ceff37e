//! What a training is besides its tensors.

use crate::config::Metric;
use crate::data::Position;
use serde::{Deserialize, Serialize};

/// All of a training but its tensors. Random numbers have no state: they follow from seed and update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Updates done.
    pub step: u64,
    /// Where the data goes on.
    pub position: Position,
    /// The seed it began with.
    pub seed: u64,
    /// [`Pairs::fingerprint`](crate::data::Pairs::fingerprint) of the data.
    pub data: u32,
    /// Source and target tokens learnt from.
    pub tokens: u64,
    /// Seconds of work.
    pub seconds: f64,
    /// The measurements by which weights are told better and worse, in their order.
    pub scores: Vec<Score>,
    /// The configuration file as it was written.
    pub config: String,
    /// The version of the program that wrote it.
    pub program: String,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The update after which it was taken.
    pub step: u64,
    /// What it was. JSON knows finite numbers alone.
    pub score: f64,
}

impl State {
    /// The best measurement, the first among equals.
    pub fn best(&self, metric: Metric) -> Option<Score> {
        let mut best: Option<Score> = None;
        for &score in &self.scores {
            if best.is_none_or(|best| metric.is_better(score.score, best.score)) {
                best = Some(score);
            }
        }
        best
    }

    /// How many measurements there were since the best.
    pub fn since_best(&self, metric: Metric) -> usize {
        let best = self.best(metric);
        self.scores.iter().rev().take_while(|score| Some(**score) != best).count()
    }
}
