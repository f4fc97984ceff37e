//! `metrics.jsonl`: one measurement per line, as JSON.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use tfm_files::write_whole;

const FILE: &str = "metrics.jsonl";

/// The longest line that is read, in bytes.
const LONGEST_LINE: u64 = 1 << 16;

/// The measurements at an update. A number that is not finite is `null` in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// On training data.
    Train {
        /// The update, counted from 1.
        step: u64,
        /// The epoch, counted from 0.
        epoch: u64,
        /// The loss per target token, in nats.
        #[serde(deserialize_with = "number")]
        loss: f64,
        /// The learning rate.
        learning_rate: f64,
        /// The Euclidean norm of the gradient before clipping.
        #[serde(deserialize_with = "number")]
        gradient_norm: f64,
        /// Source and target tokens learnt from since the training began.
        tokens: u64,
        /// Source and target tokens per second.
        #[serde(deserialize_with = "number")]
        tokens_per_second: f64,
        /// Seconds of work since the training began.
        seconds: f64,
    },
    /// On validation data.
    Validation {
        /// The update after which it was measured.
        step: u64,
        /// Cross-entropy per target token, in nats.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "measured")]
        loss: Option<f64>,
        /// BLEU, 0 to 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bleu: Option<f64>,
        /// chrF2, 0 to 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chrf: Option<f64>,
        /// The share of translations that equal the reference, in percent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accuracy: Option<f64>,
        /// Seconds of work since the training began.
        seconds: f64,
    },
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A number that must be there, if only as `null`.
fn measured<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<f64>, D::Error> {
    number(deserializer).map(Some)
}

impl Record {
    /// The update it belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Record::Train { step, .. } | Record::Validation { step, .. } => *step,
        }
    }
}

/// The file, open for appending.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens `metrics.jsonl` in a folder, for a training that resumes after update `step`. Lines of
    /// later updates, which are now repeated, are removed. With 0 the file is emptied.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Write`]; [`Error::Metrics`] for a line of another kind, and then
    /// the file is unchanged.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(FILE);
        let failed = |action| {
            let path = path.clone();
            move |source| Error::Write { action, path, source }
        };
        let records = if step == 0 { Vec::new() } else { Self::read(folder)? };
        let kept = records.iter().filter(|record| record.step() <= step).map(line);
        write_whole(&path, kept.collect::<String>().as_bytes())?;
        let file = File::options().append(true).open(&path).map_err(failed("write"))?;
        Ok(Metrics { path, file })
    }

    /// The records of `metrics.jsonl` in a folder; none if there is no such file. A last line
    /// without an end, which a killed program has left, is ignored.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Metrics`] for a line of another kind.
    pub fn read(folder: &Path) -> Result<Vec<Record>> {
        let path = folder.join(FILE);
        let failed = |source| Error::Read { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let (mut records, mut bytes) = (Vec::new(), Vec::new());
        loop {
            bytes.clear();
            (&mut file).take(LONGEST_LINE).read_until(b'\n', &mut bytes).map_err(failed)?;
            let refuse = |problem| {
                let line = records.len() as u64 + 1;
                Error::Metrics { path: path.clone(), line, problem }
            };
            if bytes.len() as u64 == LONGEST_LINE {
                return Err(refuse(format!(
                    "has more than {LONGEST_LINE} bytes: move the file away"
                )));
            }
            if !bytes.ends_with(b"\n") {
                return Ok(records);
            }
            let record = serde_json::from_slice(&bytes)
                .map_err(|error| refuse(format!("{error}: mend the line or move the file away")))?;
            records.push(record);
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn add(&mut self, record: &Record) -> Result<()> {
        // One write, so that a reader never sees half a line.
        self.file.write_all(line(record).as_bytes()).map_err(|source| Error::Write {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

fn line(record: &Record) -> String {
    // A struct of numbers always serialises.
    serde_json::to_string(record).unwrap_or_default() + "\n"
}
