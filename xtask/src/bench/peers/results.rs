//! The results, which are kept from one run of the benchmark to the next, so that rows may be
//! measured one by one.

use super::prepare::{Places, kept};
use super::program::{Job, Run};
use super::rows::Row;
use super::shown;
use crate::bench::median;
use crate::project::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

const FILE: &str = "results.json";

/// The measurements of one program at a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) program: String,
    pub(super) setting: String,
    pub(super) command: String,
    pub(super) runs: Vec<Run>,
    /// The BLEU of its translations, where there are references.
    pub(super) bleu: Option<f64>,
    /// The share of our outputs that it has too, where outputs are compared.
    pub(super) same: Option<f64>,
}

impl Entry {
    pub(super) fn new(job: &Job, places: &Places) -> Entry {
        // A program that cannot be called fails when it runs, and then says why.
        let command = job.command(places).unwrap_or_default();
        let mut words: Vec<String> = command.iter().map(|word| shown(word, places)).collect();
        if let Some(program) = words.first_mut() {
            let called = program.rsplit('/').next().unwrap_or_default().to_owned();
            *program = called;
        }
        let mkl = if job.setting.mkl { "CT2_USE_MKL=1 " } else { "" };
        let words: Vec<String> = words.into_iter().filter(|word| word != "--use-mkl").collect();
        Entry {
            program: job.program.name().into(),
            setting: job.setting.to_string(),
            command: format!("{mkl}{}", words.join(" ")),
            runs: Vec::new(),
            bleu: None,
            same: None,
        }
    }

    /// The median of a number over the runs.
    pub(super) fn median(&self, number: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(number).collect())
    }

    /// The most memory of any run, in bytes.
    pub(super) fn peak(&self) -> f64 {
        self.runs.iter().map(|run| run.peak_bytes).fold(0.0, f64::max)
    }

    /// The milliseconds that this share of all sentences did not exceed.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let mut all: Vec<f64> = self.runs.iter().flat_map(|run| run.latencies_ms.clone()).collect();
        all.sort_by(f64::total_cmp);
        let place = (all.len() as f64 * share).ceil() as usize;
        all.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

/// The measurements of a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) row: String,
    /// The machine.
    pub(super) cpu: String,
    /// All programs, ours first.
    pub(super) entries: Vec<Entry>,
    /// What is wrong with the outputs.
    pub(super) faults: Vec<String>,
}

impl Measured {
    /// How many times as fast as another entry ours is, run by run: the median, the least and the
    /// most.
    pub(super) fn ratio(&self, row: &Row, entry: &Entry) -> [f64; 3] {
        let pairs = self.entries[0].runs.iter().zip(&entry.runs);
        let ratios: Vec<f64> =
            pairs.map(|(ours, theirs)| ours.speed(row) / theirs.speed(row)).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        [median(ratios), least, most]
    }
}

/// All rows measured so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Results(BTreeMap<String, Measured>);

impl Results {
    /// Loads what was measured before on this machine.
    pub(super) fn load() -> Results {
        let text = fs::read_to_string(kept(FILE)).unwrap_or_default();
        // Results that an older version of this program wrote are measured again.
        let mut results: Results = serde_json::from_str(&text).unwrap_or_default();
        let here = crate::bench::cpu::describe();
        results.0.retain(|_, measured| measured.cpu == here);
        results
    }

    pub(super) fn store(&self) -> Outcome {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        fs::write(kept(FILE), text + "\n").map_err(|error| format!("{FILE}: {error}"))
    }

    pub(super) fn insert(&mut self, measured: Measured) {
        self.0.insert(measured.row.clone(), measured);
    }

    pub(super) fn get(&self, row: &Row) -> Option<&Measured> {
        self.0.get(&row.name())
    }
}
