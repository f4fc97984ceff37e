//! The programs that are measured: how each is called, and what it prints about a run.

use super::prepare::Places;
use super::rows::{Mode, Model, Row};
use crate::project::{Outcome, root};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The script that calls the peers, relative to the root, in which everything runs.
pub(super) const SCRIPT: &str = "xtask/python/peers.py";
/// Our program. It takes the script's options, reads the same files and prints the same line.
pub(super) const OURS: &str = "peer_run";

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Tfm,
    CTranslate2,
    Transformers,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Program::Tfm => "tfm",
            Program::CTranslate2 => "CTranslate2",
            Program::Transformers => "transformers on PyTorch",
        }
    }
}

/// What the size of a batch counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    Sentences,
    Tokens,
    /// The hypotheses of all sentences that are decoded together.
    Hypotheses,
}

/// How a program is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    /// The number of batches that are translated at the same time.
    pub(super) workers: usize,
    /// The number of threads of each worker.
    pub(super) threads: usize,
    /// The size of a batch, unless the program chooses it.
    pub(super) batch: Option<(usize, Unit)>,
    /// Whether `CT2_USE_MKL=1` is set.
    pub(super) mkl: bool,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {} threads", self.workers, self.threads)?;
        if let Some((size, unit)) = self.batch {
            write!(f, ", batches of {size} {}", format!("{unit:?}").to_lowercase())?;
        }
        if self.mkl { f.write_str(", CT2_USE_MKL=1") } else { Ok(()) }
    }
}

/// A program and the work that it is to do.
pub(super) struct Job<'a> {
    pub(super) row: &'a Row,
    pub(super) program: Program,
    pub(super) setting: Setting,
    /// The file for its translations.
    pub(super) output: PathBuf,
    /// Translate only the first sentences, this many.
    pub(super) limit: Option<usize>,
}

/// What a program printed about a run, for which it had loaded the model and warmed up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) seconds: f64,
    /// The processor time of all threads while the clock ran.
    processor_seconds: f64,
    pub(super) sentences: usize,
    pub(super) tokens: usize,
    pub(super) latencies_ms: Vec<f64>,
    pub(super) peak_bytes: f64,
    pub(super) versions: BTreeMap<String, String>,
    /// The time from the process's start to its end, including the warm-up.
    #[serde(default)]
    pub(super) process_seconds: f64,
}

impl Run {
    /// A line for whoever watches.
    pub(super) fn summary(&self, row: &Row) -> String {
        let speed = match row.mode {
            Mode::Batch => format!(
                "{:.2} s, {:.0} sentences/s, {:.0} tokens/s",
                self.seconds,
                self.sentences as f64 / self.seconds,
                self.tokens as f64 / self.seconds
            ),
            Mode::Latency => {
                format!("median {:.1} ms", super::super::median(self.latencies_ms.clone()))
            }
        };
        let processors = self.processor_seconds / self.seconds;
        format!("{speed}, {:.0} MB, {processors:.2} processors busy", self.peak_bytes / 1e6)
    }

    pub(super) fn speed(&self, row: &Row) -> f64 {
        row.speed(self.seconds, self.sentences, &self.latencies_ms)
    }
}

impl Job<'_> {
    /// The command line.
    pub(super) fn command(&self, places: &Places) -> Outcome<Vec<String>> {
        let (row, setting) = (self.row, &self.setting);
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let model = places.model(row.model).ok_or_else(|| places.missing())?;
        let python = || [text(places.python.clone()), SCRIPT.into()];
        let mut words: Vec<String> = Vec::new();
        let mut add = |all: &[&str]| words.extend(all.iter().map(|word| (*word).to_owned()));
        match self.program {
            Program::Tfm => add(&[&text(places.ours()?), "--dtype", row.dtype]),
            Program::CTranslate2 => {
                let converted = text(places.converted(row.model, row.dtype)?);
                let [python, script] = &python();
                add(&[python, script, "ct2", "--converted", &converted, "--dtype", row.dtype]);
            }
            Program::Transformers => {
                let [python, script] = &python();
                add(&[python, script, "torch"]);
            }
        }
        add(&["--model", &text(model), "--input", &text(places.input(row))]);
        add(&["--output", &text(self.output.clone()), "--beam", &row.beam.to_string()]);
        if row.mode == Mode::Latency {
            add(&["--mode", "latency"]);
        }
        if row.model == Model::Trained {
            add(&["--text"]);
        }
        for (option, number) in [("--length", row.length()), ("--limit", self.limit)] {
            if let Some(number) = number {
                add(&[option, &number.to_string()]);
            }
        }
        add(&["--workers", &setting.workers.to_string()]);
        add(&["--threads", &setting.threads.to_string()]);
        if let Some((size, unit)) = setting.batch {
            add(&["--batch", &size.to_string()]);
            if unit == Unit::Tokens {
                add(&["--batch-type", "tokens"]);
            }
        }
        if setting.mkl {
            add(&["--use-mkl"]);
        }
        Ok(words)
    }

    /// Runs the program to its end. `None` if it took longer than `most`.
    pub(super) fn run(&self, places: &Places, most: Option<Duration>) -> Outcome<Option<Run>> {
        let words = self.command(places)?;
        let fault = |problem: &str| format!("{}: {problem}", words.join(" "));
        let start = Instant::now();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| fault(&error.to_string()))?;
        let status = loop {
            match child.try_wait().map_err(|error| fault(&error.to_string()))? {
                Some(status) => break status,
                None if most.is_some_and(|most| start.elapsed() > most) => {
                    // The program may have ended in between.
                    let _ = child.kill();
                    child.wait().map_err(|error| fault(&error.to_string()))?;
                    return Ok(None);
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let process_seconds = start.elapsed().as_secs_f64();
        let mut printed = String::new();
        // The line is far shorter than a pipe's buffer, so the program never waited for a reader.
        if let Some(mut output) = child.stdout.take() {
            output.read_to_string(&mut printed).map_err(|error| fault(&error.to_string()))?;
        }
        if !status.success() {
            return Err(fault(&status.to_string()));
        }
        let line = printed.lines().last().unwrap_or_default();
        let run: Run = serde_json::from_str(line)
            .map_err(|error| fault(&format!("it printed {printed:?}: {error}")))?;
        Ok(Some(Run { process_seconds, ..run }))
    }
}
