//! The rows: which work is measured, of whom, and what ratio is asked for.

use super::program::Program;

/// What is translated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// Random weights in the shape of OPUS-MT; every output has the same length.
    Base,
    /// The trained checkpoint among the large test data, and the Tatoeba test split.
    Trained,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All sentences together: how many a second.
    Batch,
    /// Each sentence alone: how long it takes.
    Latency,
}

/// Who is beside whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// Other programs.
    Peers,
    /// Ourselves on one thread.
    OneThread,
}

/// A program, and the threads that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contestant {
    pub(super) program: Program,
    pub(super) threads: usize,
}

/// A piece of work that programs are measured at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) model: Model,
    pub(super) mode: Mode,
    pub(super) against: Against,
    pub(super) beam: usize,
    pub(super) dtype: &'static str,
    /// How many times as fast as the peer of the same precision we are to be.
    pub(super) asked: f64,
}

/// Threads of every program, where nothing else is said.
pub(super) const THREADS: usize = 2;
/// Tokens of every output of the base shape.
const LENGTH_BATCH: usize = 32;
const LENGTH_SINGLE: usize = 24;
/// Sentences that are timed one by one.
const SINGLE: usize = 60;

/// All rows, in the order of the page.
pub(super) fn all() -> Vec<Row> {
    use Against::{OneThread, Peers};
    use Mode::{Batch, Latency};
    use Model::{Base, Trained};
    [
        (Base, Batch, Peers, 4, "int8", 2.3),
        (Base, Batch, Peers, 4, "f32", 1.25),
        (Base, Batch, Peers, 1, "int8", 2.1),
        (Base, Batch, Peers, 1, "f32", 1.5),
        (Trained, Batch, Peers, 4, "int8", 2.5),
        (Trained, Batch, Peers, 4, "f32", 1.6),
        (Base, Latency, Peers, 1, "int8", 2.5),
        (Base, Latency, Peers, 1, "f32", 1.7),
        (Base, Latency, Peers, 4, "int8", 3.0),
        (Base, Latency, Peers, 4, "f32", 1.7),
        (Base, Batch, OneThread, 4, "int8", 1.85),
        (Base, Batch, OneThread, 4, "f32", 1.85),
        (Base, Latency, OneThread, 1, "int8", 1.85),
        (Base, Latency, OneThread, 1, "f32", 1.85),
    ]
    .map(|(model, mode, against, beam, dtype, asked)| Row {
        model,
        mode,
        against,
        beam,
        dtype,
        asked,
    })
    .to_vec()
}

impl Row {
    /// What `--only` looks into, and what results are kept by.
    pub(super) fn name(&self) -> String {
        let table = match (self.against, self.model, self.mode) {
            (Against::OneThread, ..) => "threads",
            (_, Model::Trained, _) => "trained",
            (_, Model::Base, Mode::Batch) => "base",
            (_, Model::Base, Mode::Latency) => "single",
        };
        let mode = match (self.against, self.mode) {
            (Against::OneThread, Mode::Batch) => " batch",
            (Against::OneThread, Mode::Latency) => " alone",
            _ => "",
        };
        format!("{table}{mode} beam {} {}", self.beam, self.dtype)
    }

    /// How the page calls it within its table.
    pub(super) fn title(&self) -> String {
        let search = if self.beam == 1 { "greedy".into() } else { format!("beam {}", self.beam) };
        let mode = match (self.against, self.mode) {
            (Against::OneThread, Mode::Batch) => "many sentences, ",
            (Against::OneThread, Mode::Latency) => "one sentence at a time, ",
            _ => "",
        };
        format!("{mode}{search}, {}", self.dtype)
    }

    /// Who takes part, we first.
    pub(super) fn contestants(&self) -> Vec<Contestant> {
        let with = |program, threads| Contestant { program, threads };
        let mut all = vec![with(Program::Tfm, THREADS)];
        match self.against {
            Against::OneThread => all.push(with(Program::Tfm, 1)),
            Against::Peers => {
                all.push(with(Program::CTranslate2, THREADS));
                if self.model == Model::Trained && self.dtype == "f32" {
                    all.push(with(Program::Transformers, THREADS));
                }
            }
        }
        all
    }

    /// Tokens of every output, where they are fixed.
    pub(super) fn length(&self) -> Option<usize> {
        match (self.model, self.mode) {
            (Model::Trained, _) => None,
            (Model::Base, Mode::Batch) => Some(LENGTH_BATCH),
            (Model::Base, Mode::Latency) => Some(LENGTH_SINGLE),
        }
    }

    /// How many sentences are translated, where not all that there are.
    pub(super) fn limit(&self) -> Option<usize> {
        (self.mode == Mode::Latency).then_some(SINGLE)
    }

    /// How many sentences settings are tuned on: enough that two workers with large batches are
    /// both busy.
    pub(super) fn tuned_on(&self) -> usize {
        if self.mode == Mode::Latency { 10 } else { 256 }
    }

    /// How many sentences a quick run has.
    pub(super) fn quick(&self) -> usize {
        match (self.mode, self.model) {
            (Mode::Latency, _) => 3,
            (_, Model::Base) => 16,
            (_, Model::Trained) => 100,
        }
    }

    /// Sentences a second, or those that one could have one after the other: what is compared.
    pub(super) fn speed(&self, seconds: f64, sentences: usize, latencies: &[f64]) -> f64 {
        match self.mode {
            Mode::Batch => sentences as f64 / seconds,
            Mode::Latency => 1e3 / super::super::median(latencies.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_names_of_their_own() {
        let names: std::collections::BTreeSet<String> = all().iter().map(Row::name).collect();
        assert_eq!(names.len(), all().len());
    }
}
