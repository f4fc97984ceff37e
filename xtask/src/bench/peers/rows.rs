//! The rows of the table: which work is measured, of which programs, and what ratio is required.

use super::program::Program;

/// The model that translates.
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

/// What our program is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// Other programs.
    Peers,
    /// Our program on one thread.
    OneThread,
}

/// A program, and the number of threads that it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contestant {
    pub(super) program: Program,
    pub(super) threads: usize,
}

/// The work at which programs are measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) model: Model,
    pub(super) mode: Mode,
    pub(super) against: Against,
    pub(super) beam: usize,
    pub(super) dtype: &'static str,
    /// How many times as fast as the peer of the same precision our program is required to be.
    pub(super) asked: f64,
}

/// Threads of every program, unless a row says otherwise.
pub(super) const THREADS: usize = 2;
/// The number of tokens in every output of the base shape.
const LENGTH_BATCH: usize = 32;
const LENGTH_SINGLE: usize = 24;
/// The number of sentences that are timed one by one.
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
    /// The name that `--only` searches, and under which results are kept.
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

    /// The row's name on the page, within its table.
    pub(super) fn title(&self) -> String {
        let search = if self.beam == 1 { "greedy".into() } else { format!("beam {}", self.beam) };
        let mode = match (self.against, self.mode) {
            (Against::OneThread, Mode::Batch) => "many sentences, ",
            (Against::OneThread, Mode::Latency) => "one sentence at a time, ",
            _ => "",
        };
        format!("{mode}{search}, {}", self.dtype)
    }

    /// The programs that take part, ours first.
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

    /// The number of tokens in every output, where it is fixed.
    pub(super) fn length(&self) -> Option<usize> {
        match (self.model, self.mode) {
            (Model::Trained, _) => None,
            (Model::Base, Mode::Batch) => Some(LENGTH_BATCH),
            (Model::Base, Mode::Latency) => Some(LENGTH_SINGLE),
        }
    }

    /// The number of sentences to translate, unless it is all of them.
    pub(super) fn limit(&self) -> Option<usize> {
        (self.mode == Mode::Latency).then_some(SINGLE)
    }

    /// The number of sentences that settings are tuned on. It is enough to keep two workers with
    /// large batches busy.
    pub(super) fn tuned_on(&self) -> usize {
        if self.mode == Mode::Latency { 10 } else { 256 }
    }

    /// The number of sentences in a quick run.
    pub(super) fn quick(&self) -> usize {
        match (self.mode, self.model) {
            (Mode::Latency, _) => 3,
            (_, Model::Base) => 16,
            (_, Model::Trained) => 100,
        }
    }

    /// What is compared: the sentences a second or, if each is timed alone, those that would fit in
    /// a second one after the other.
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
