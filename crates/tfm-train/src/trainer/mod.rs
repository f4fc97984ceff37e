//! A training from its configuration to a model on disk.

mod export;
mod measure;
mod prepare;
mod reporter;

pub use measure::Measured;
pub use prepare::Prepared;

use crate::checkpoint::{self, Score, State, TrainingTensor};
use crate::config::TrainConfig;
use crate::data::{Loader, Position, Stream};
use crate::error::{Error, Result};
use crate::learner::{Learner, Outcome};
use crate::report::Observer;
use measure::{borrowed, examples};
use reporter::Reporter;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tfm_core::{ParameterSource, Session, Tensor};
use tfm_files::FolderLock;

/// A device, as a training uses it.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// Makes sessions on it.
    pub session: &'a dyn Fn(Arc<dyn ParameterSource>) -> tfm_core::Result<Session>,
    /// How many workers translate side by side at a validation.
    pub workers: usize,
}

/// The folder, inside that of the training, where the trained model is written.
const MODEL: &str = "model";

/// How many batches are loaded ahead.
const AHEAD: usize = 8;

/// One update, as it is reported.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// Its number, counted from 1.
    pub number: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Its numbers.
    pub outcome: Outcome,
    /// The learning rate.
    pub learning_rate: f64,
    /// Source and target tokens so far.
    pub tokens: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It reached its last update or epoch.
    Done,
    /// No score was better than the best for as long as `patience` allows.
    EarlyStop,
    /// The caller asked it to stop.
    Stopped,
}

/// The result of a training.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Why it ended.
    pub ended: Ended,
    /// How many updates were made.
    pub updates: u64,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The folder of the model, if the training was not stopped.
    pub model: Option<PathBuf>,
}

/// Trains as `config` says. With `resume` it continues from the last complete checkpoint in the
/// output folder, bit for bit as if it had not stopped. When `stop` becomes true, it finishes the
/// current update, writes a checkpoint and ends. It reports its progress to `observer`.
///
/// # Errors
/// Faults of the configuration, the data or the model, before any work; [`Error::NotFinite`]; a
/// checkpoint that cannot be written, and then the one before it is complete.
pub fn train(
    config: &TrainConfig,
    resume: bool,
    device: Device<'_>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Finished> {
    let output = &config.run.output;
    let _lock = FolderLock::acquire(output)?;
    let before = checkpoint::steps(output)?;
    if !resume && let Some((_, folder)) = before.last() {
        return Err(Error::OutputInUse { folder: folder.clone() });
    }
    let mut reporter = Reporter::new(config, observer);
    let prepared = Prepared::new(config, &mut |text| reporter.note(&text))?;
    let session = (device.session)(prepared.fixed.clone())?;
    let mut training = Training::new(config, &prepared, session)?;
    if resume {
        training.resume(&mut reporter)?;
    }
    training.run(device, stop, &mut reporter)
}

/// A training that runs.
struct Training<'a> {
    config: &'a TrainConfig,
    prepared: &'a Prepared,
    learner: Learner,
    state: State,
    /// Whether the state has changed since it was last saved.
    unsaved: bool,
}

impl<'a> Training<'a> {
    fn new(config: &'a TrainConfig, prepared: &'a Prepared, session: Session) -> Result<Self> {
        let learner = Learner::new(
            session,
            prepared.config.clone(),
            prepared.learning.clone(),
            prepared.method.clone(),
            &prepared.weights,
        )?;
        let state = State {
            step: 0,
            position: Position::default(),
            seed: config.run.seed,
            data: prepared.training.fingerprint(),
            tokens: 0,
            seconds: 0.0,
            scores: Vec::new(),
            config: config.text.clone(),
            program: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(Training { config, prepared, learner, state, unsaved: true })
    }

    /// Restores the last complete checkpoint, if there is one.
    fn resume(&mut self, reporter: &mut Reporter<'_>) -> Result<()> {
        let output = &self.config.run.output;
        let latest = checkpoint::latest_good(output)?;
        for refused in &latest.refused {
            reporter.note(&refused.to_string());
        }
        let Some((folder, loaded)) = latest.found else {
            // No checkpoint is complete: only the user may decide to begin anew.
            if let Some(refused) = latest.refused.into_iter().next() {
                return Err(refused);
            }
            reporter.note("there is no checkpoint to go on from: the training begins");
            return Ok(());
        };
        let found = &loaded.state;
        if (found.seed, found.data) != (self.state.seed, self.state.data) {
            let what = if found.seed == self.state.seed { "data or tokeniser" } else { "seed" };
            return Err(Error::OtherTraining { folder, what });
        }
        if found.config != self.state.config {
            reporter
                .note("the configuration is not what the training began with; the new one counts");
        }
        let tensors = loaded.tensors().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let mut states = BTreeMap::new();
        for name in tensors {
            if let Some((shape, values)) = loaded.tensor(&name) {
                states.insert(name, Tensor::from_f32(shape.clone(), values)?);
            }
        }
        self.learner.restore(found.step, &states)?;
        for (step, refused) in checkpoint::steps(output)? {
            if step > found.step {
                let aside = refused.with_file_name(format!("refused-{step:08}"));
                std::fs::rename(&refused, &aside).map_err(|source| Error::Write {
                    action: "rename",
                    path: refused,
                    source,
                })?;
                reporter.note(&format!("it is now called {}", aside.display()));
            }
        }
        if let Some(updates) = self.config.run.updates.filter(|updates| *updates < found.step) {
            reporter.note(&format!(
                "the checkpoint has {} updates, more than run.updates = {updates}: nothing is left \
                 to train, and the model is that of the checkpoint",
                found.step
            ));
        }
        self.state = State { config: self.state.config.clone(), ..loaded.state };
        self.unsaved = false;
        reporter.resumed(self.state.step, self.state.seconds);
        reporter.note(&format!("going on from {}", folder.display()));
        Ok(())
    }

    fn run(
        mut self,
        device: Device<'_>,
        stop: &AtomicBool,
        reporter: &mut Reporter<'_>,
    ) -> Result<Finished> {
        let (config, run) = (self.config, &self.config.run);
        let stream = Stream::new(
            self.prepared.training.clone(),
            config.batch,
            run.seed,
            self.state.position,
        )?;
        let mut loader = Loader::start(stream, AHEAD)?;
        let ended = loop {
            if run.updates.is_some_and(|updates| self.state.step >= updates)
                || run.epochs.is_some_and(|epochs| self.state.position.epoch >= epochs)
            {
                break Ended::Done;
            }
            if stop.load(Ordering::Relaxed) {
                break Ended::Stopped;
            }
            self.update(&mut loader, reporter)?;
            let step = self.state.step;
            let is_due = |every: u64| step.is_multiple_of(every);
            if config.validation.every.is_some_and(is_due) {
                self.measure(device, reporter)?;
                let patience = config.validation.patience;
                let since = self.state.since_best(config.validation.best) as u64;
                if patience.is_some_and(|patience| since >= patience) {
                    break Ended::EarlyStop;
                }
            }
            if is_due(config.checkpoint.every) {
                self.save()?;
            }
        };
        let checkpoint = self.save()?;
        let model = match ended {
            Ended::Stopped => None,
            _ => Some(self.export(ended, reporter)?),
        };
        Ok(Finished { ended, updates: self.state.step, checkpoint, model })
    }

    fn update(&mut self, loader: &mut Loader, reporter: &mut Reporter<'_>) -> Result<()> {
        let started = Instant::now();
        let mut batches = Vec::new();
        let mut epoch = self.state.position.epoch;
        let mut next = self.state.position;
        for _ in 0..self.config.batch.accumulate {
            let batch = loader.next_batch()?;
            (epoch, next) = (batch.at.epoch, batch.next);
            batches.push(examples(&batch));
        }
        let number = self.state.step + 1;
        let learning_rate = self.config.schedule.rate(number, self.prepared.config.d_model);
        let batches: Vec<_> = batches.iter().map(|batch| borrowed(batch)).collect();
        let batches: Vec<&[_]> = batches.iter().map(Vec::as_slice).collect();
        let outcome = self.learner.update(&batches, learning_rate)?;
        let seconds = started.elapsed().as_secs_f64();
        self.state.step = number;
        self.state.position = next;
        self.state.tokens += outcome.tokens as u64;
        self.state.seconds += seconds;
        self.unsaved = true;
        reporter.updated(&Update {
            number,
            epoch,
            outcome,
            learning_rate,
            tokens: self.state.tokens,
            seconds,
        })
    }

    fn measure(&mut self, device: Device<'_>, reporter: &mut Reporter<'_>) -> Result<()> {
        let Some(pairs) = &self.prepared.validation else { return Ok(()) };
        let (wanted, tokens) = (&self.config.validation, self.config.batch.tokens);
        let measured =
            measure::measure(&mut self.learner, self.prepared, pairs, wanted, tokens, device)?;
        if let Some(score) = measured.score(wanted.best).filter(|score| score.is_finite()) {
            self.state.scores.push(Score { step: self.state.step, score });
        }
        reporter.measured(self.state.step, &measured)
    }

    /// Writes a checkpoint, unless nothing has changed since the last one.
    fn save(&mut self) -> Result<PathBuf> {
        let (output, keep) = (&self.config.run.output, &self.config.checkpoint);
        if !self.unsaved {
            let steps = checkpoint::steps(output)?;
            if let Some((_, folder)) =
                steps.into_iter().rev().find(|(step, _)| *step == self.state.step)
            {
                return Ok(folder);
            }
        }
        let states = self.learner.lasting_states()?;
        let tensors = states.iter().filter_map(|(name, tensor)| {
            let values = tensor.as_f32()?;
            Some(TrainingTensor { name, shape: tensor.shape(), values })
        });
        let folder = checkpoint::save(output, &self.state, tensors)?;
        self.unsaved = false;
        let best = self.config.validation.best;
        checkpoint::prune(output, keep.keep_last, keep.keep_best, best, &self.state.scores)?;
        Ok(folder)
    }

    /// Writes the model: after an early stop the best checkpoint, if it is kept; else the mean of
    /// the last checkpoints, where the configuration asks for it; else the current weights.
    fn export(&mut self, ended: Ended, reporter: &mut Reporter<'_>) -> Result<PathBuf> {
        let output = &self.config.run.output;
        let folder = output.join(MODEL);
        let count = self.config.checkpoint.average;
        let steps = checkpoint::steps(output)?;
        let best = self.state.best(self.config.validation.best).map(|best| best.step);
        let best = steps.iter().find(|(step, _)| ended == Ended::EarlyStop && Some(*step) == best);
        let weights = if let Some((step, folder)) = best {
            reporter.note(&format!("the model is the best, that of update {step}"));
            export::mean(std::slice::from_ref(folder), self.prepared)?
        } else if count > 1 && self.prepared.method.average_decay.is_none() {
            let folders: Vec<PathBuf> =
                steps.into_iter().rev().take(count).map(|(_, folder)| folder).collect();
            reporter.note(&format!("the model is the mean of {} checkpoints", folders.len()));
            export::mean(&folders, self.prepared)?
        } else {
            self.learner.weights()?
        };
        export::write(&folder, weights, self.prepared)?;
        Ok(folder)
    }
}
