//! `[run]`, `[validation]` and `[checkpoint]`.

use super::BaseFolders;
use super::table::Table;
use std::path::PathBuf;

/// Where a training runs, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The folder for checkpoints, reports and the model.
    pub output: PathBuf,
    /// The seed of weights, dropout and the order of data.
    pub seed: u64,
    /// Updates after which it ends.
    pub updates: Option<u64>,
    /// Epochs after which it ends, if that comes first.
    pub epochs: Option<u64>,
    /// The name of the device, as the command knows it; `None` for the fastest device.
    pub device: Option<String>,
    /// Threads; `None` for one per core.
    pub threads: Option<usize>,
    /// Updates between two lines of `metrics.jsonl`.
    pub report_every: u64,
    /// The scopes whose values are recomputed in the backward pass instead of being kept.
    pub recompute: Vec<String>,
}

/// How progress is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// Updates between validations; `None` for no validations.
    pub every: Option<u64>,
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// The metric that decides which weights are the best.
    pub best: Metric,
    /// Beams of the beam search.
    pub beams: usize,
    /// The most sentences that are translated; the loss is computed over all. `None` for all.
    pub sentences: Option<usize>,
    /// How many translations are shown.
    pub samples: usize,
    /// Validations without a new best score after which the training ends; `None` for never.
    pub patience: Option<u64>,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Cross-entropy per target token, in nats, without label smoothing. Less is better.
    Loss,
    /// BLEU, 0 to 100.
    Bleu,
    /// chrF2, 0 to 100.
    Chrf,
    /// The share of translations that equal the reference, in percent.
    Accuracy,
}

impl Metric {
    /// Its name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Bleu => "bleu",
            Metric::Chrf => "chrf",
            Metric::Accuracy => "accuracy",
        }
    }

    /// Whether a score is better than another.
    pub fn is_better(self, score: f64, other: f64) -> bool {
        match self {
            Metric::Loss => score < other,
            Metric::Bleu | Metric::Chrf | Metric::Accuracy => score > other,
        }
    }
}

/// Which checkpoints are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// Updates between checkpoints.
    pub every: u64,
    /// How many of the newest checkpoints are kept.
    pub keep_last: usize,
    /// How many of the best checkpoints are kept as well.
    pub keep_best: usize,
    /// How many checkpoints are averaged at the end (section 6.1); 1 for the last one alone.
    pub average: usize,
}

impl Run {
    pub(super) fn read(table: &mut Table<'_>, folders: &BaseFolders<'_>) -> Option<Self> {
        let output = table.text("output");
        let output = table.required("output", output).map(|folder| folders.path(&folder));
        let updates = table.count("updates", 1..=1 << 40);
        let epochs = table.count("epochs", 1..=1 << 30);
        if !table.has("updates") && !table.has("epochs") {
            table.fault("updates", "is missing, as is `epochs`: when does the training end?");
        }
        let run = Run {
            output: output.clone().unwrap_or_default(),
            seed: table.count("seed", 0..=u64::MAX).unwrap_or(1),
            updates,
            epochs,
            device: table.text("device"),
            threads: table.size("threads", 1..=1 << 12),
            report_every: table.count("report_every", 1..=1 << 30).unwrap_or(10),
            recompute: table.texts("recompute").unwrap_or_default(),
        };
        output.map(|_| run)
    }
}

impl Validation {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let metrics = [Metric::Loss, Metric::Bleu, Metric::Chrf, Metric::Accuracy]
            .map(|metric| (metric.name(), metric));
        let measured = table.choices("metrics", &metrics).unwrap_or_else(|| vec![Metric::Loss]);
        let best = table.choice("best", &metrics);
        if let Some(best) = best.filter(|best| !measured.contains(best)) {
            table.fault("best", format!("is \"{}\", which `metrics` does not list", best.name()));
        }
        if measured.is_empty() {
            table.fault("metrics", "is empty");
        }
        let best = best.or(measured.first().copied()).unwrap_or(Metric::Loss);
        Validation {
            every: table.count("every", 1..=1 << 40),
            metrics: measured,
            best,
            beams: table.size("beams", 1..=1 << 10).unwrap_or(1),
            sentences: table.size("sentences", 1..=1 << 40),
            samples: table.size("samples", 0..=1000).unwrap_or(3),
            patience: table.count("patience", 1..=1 << 30),
        }
    }
}

impl Checkpoints {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let average = table.size("average", 1..=1000).unwrap_or(1);
        Checkpoints {
            every: table.count("every", 1..=1 << 40).unwrap_or(1000),
            keep_last: table.size("keep_last", 1..=10_000).unwrap_or(average.max(3)),
            keep_best: table.size("keep_best", 0..=1000).unwrap_or(0),
            average,
        }
    }
}
