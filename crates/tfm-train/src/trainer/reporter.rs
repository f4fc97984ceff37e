//! Reports of a training: to its output folder, and to its observer.

use super::{Measured, Update};
use crate::config::{Metric, TrainConfig};
use crate::error::Result;
use crate::report::{
    EventFile, LossAxis, Metrics, Observer, Record, Speed, Status, peak_memory, write_curves,
};
use std::path::PathBuf;

/// Writes `metrics.jsonl`, TensorBoard's files and `curves.svg`, and tells the observer.
pub(super) struct Reporter<'a> {
    output: PathBuf,
    observer: &'a mut dyn Observer,
    speed: Speed,
    /// Opened at the first update, when all checks have passed.
    files: Option<(Metrics, EventFile)>,
    /// The update that the training resumes after.
    begin: u64,
    /// Seconds of work so far.
    seconds: f64,
    every: u64,
    updates: Option<u64>,
}

impl<'a> Reporter<'a> {
    /// For a training of this configuration.
    pub(super) fn new(config: &TrainConfig, observer: &'a mut dyn Observer) -> Self {
        Reporter {
            output: config.run.output.clone(),
            observer,
            speed: Speed::default(),
            files: None,
            begin: 0,
            seconds: 0.0,
            every: config.run.report_every,
            updates: config.run.updates,
        }
    }

    /// Tells the observer something that a person should know.
    pub(super) fn note(&mut self, text: &str) {
        self.observer.note(text);
    }

    /// The training resumes after this update and this many seconds of work.
    pub(super) fn resumed(&mut self, update: u64, seconds: f64) {
        (self.begin, self.seconds) = (update, seconds);
    }

    /// Reports an update.
    pub(super) fn updated(&mut self, update: &Update) -> Result<()> {
        self.seconds += update.seconds;
        self.speed.update(update.number, update.tokens);
        self.observer.updated(&Status {
            step: update.number,
            updates: self.updates,
            epoch: update.epoch,
            loss: update.outcome.mean_loss(),
            learning_rate: update.learning_rate,
            tokens_per_second: self.speed.tokens_per_second(),
            seconds_left: self.speed.seconds_left(self.updates),
            peak_memory: peak_memory(),
        });
        if !update.number.is_multiple_of(self.every) {
            return Ok(());
        }
        let record = Record::Train {
            step: update.number,
            epoch: update.epoch,
            loss: update.outcome.mean_loss(),
            learning_rate: update.learning_rate,
            gradient_norm: update.outcome.gradient_norm,
            tokens: update.tokens,
            tokens_per_second: update.outcome.tokens as f64 / update.seconds.max(1e-9),
            seconds: self.seconds,
        };
        let speed = self.speed.tokens_per_second();
        let (metrics, events) = self.files()?;
        metrics.add(&record)?;
        events.scalar(update.number, "loss/train", update.outcome.mean_loss())?;
        events.scalar(update.number, "learning_rate", update.learning_rate)?;
        events.scalar(update.number, "gradient_norm", update.outcome.gradient_norm)?;
        events.scalar(update.number, "tokens_per_second", speed)
    }

    /// Reports a validation.
    pub(super) fn measured(&mut self, update: u64, measured: &Measured) -> Result<()> {
        let record = Record::Validation {
            step: update,
            loss: measured.score(Metric::Loss),
            bleu: measured.score(Metric::Bleu),
            chrf: measured.score(Metric::Chrf),
            accuracy: measured.score(Metric::Accuracy),
            seconds: self.seconds,
        };
        let (metrics, events) = self.files()?;
        metrics.add(&record)?;
        let mut line = format!("update {update}:");
        for (metric, score) in &measured.scores {
            events.scalar(update, &format!("{}/validation", metric.name()), *score)?;
            line += &format!(" {} {score:.4}", metric.name());
        }
        self.note(&line);
        for [source, reference, translation] in &measured.samples {
            self.note(&format!("  {source}\n    {translation}\n    ({reference})"));
        }
        write_curves(&self.output, &Metrics::read(&self.output)?, LossAxis::Linear)?;
        self.speed.restart();
        Ok(())
    }

    fn files(&mut self) -> Result<&mut (Metrics, EventFile)> {
        let files = match self.files.take() {
            Some(files) => files,
            None => (
                Metrics::open(&self.output, self.begin)?,
                EventFile::create(&self.output, self.begin)?,
            ),
        };
        Ok(self.files.insert(files))
    }
}
