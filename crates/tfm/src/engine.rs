//! A model on a device: tokens in, hypotheses out, and the way from text to tokens and back.

use crate::options::Compute;
use crate::{Alternative, Device, Model, Options, Result, Translation};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tfm_model::generation::{GenerationOptions, Hypothesis};
use tfm_model::scheduler::{Rejection, Request, Scheduler, Settings, Stats};
use tfm_model::{Parameters, TeacherForcing};
use tfm_text::Framing;

/// What translators of one model on one device share, whatever their options, with their streams.
pub(crate) struct Engine {
    pub(crate) model: Model,
    scheduler: Scheduler,
    teacher_forcing: Mutex<TeacherForcing>,
    /// The process that made it.
    process: u32,
}

/// Options that have been checked against a model.
pub(crate) struct Prepared {
    pub(crate) generation: Arc<GenerationOptions>,
    alignments: bool,
    /// The tokens around sources, with the target language's.
    pub(crate) framing: Framing,
}

impl Prepared {
    fn new(model: &Model, options: &Options) -> Result<Self> {
        let framing = match &options.target_language {
            Some(language) => model.tokenizer.framing_to(language)?,
            None => model.tokenizer.framing().clone(),
        };
        let generation = Arc::new(options.generation(model)?);
        Ok(Prepared { generation, alignments: options.alignments, framing })
    }
}

/// A tokenised source sentence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// None for a blank sentence.
    pub(crate) tokens: Vec<u32>,
    /// How many tokens did not fit the model.
    truncated: usize,
}

impl Engine {
    pub(crate) fn new(
        model: &Model,
        device: Device,
        compute: &Compute,
        options: &Options,
    ) -> Result<(Self, Prepared)> {
        device.check()?;
        let prepared = Prepared::new(model, options)?;
        if let Some(shortlist) = &compute.shortlist {
            shortlist.check(&model.tokenizer)?;
        }
        let mut limits = device.limits();
        if let Some(tokens) = compute.batch_tokens {
            limits.source_tokens = tokens.get();
        }
        limits.memory = compute.memory.unwrap_or(limits.memory);
        let numerics = device.numerics(compute.dtype)?;
        let parameters = Parameters::of_type(model.checkpoint.clone(), numerics.dtype);
        let session = device.session(Arc::new(parameters)).map_err(tfm_model::Error::from)?;
        let settings = Settings {
            workers: device.workers(),
            limits,
            pin: compute.pin,
            shortlist: compute.shortlist.clone(),
            ..Settings::default()
        };
        let config = &model.config;
        let scheduler = Scheduler::new(&session, config, numerics, &settings)?;
        let teacher_forcing = Mutex::new(TeacherForcing::new(session, config.clone(), numerics));
        let (model, process) = (model.clone(), std::process::id());
        Ok((Engine { model, scheduler, teacher_forcing, process }, prepared))
    }

    /// The options, checked against the model.
    pub(crate) fn prepare(&self, options: &Options) -> Result<Prepared> {
        Prepared::new(&self.model, options)
    }

    /// What computes given texts, when nobody else uses it.
    ///
    /// # Errors
    /// This process is a fork: it lacks the threads that compute, and somebody may hold the lock
    /// for ever.
    pub(crate) fn teacher_forcing(&self) -> Result<MutexGuard<'_, TeacherForcing>> {
        if std::process::id() != self.process {
            return Err(tfm_model::Error::from(Rejection::Forked).into());
        }
        Ok(self.teacher_forcing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tokens of a sentence, as many as the model has positions for.
    pub(crate) fn source(&self, prepared: &Prepared, text: &str) -> Result<Source> {
        if text.trim().is_empty() {
            return Ok(Source::default());
        }
        let mut tokens = self.model.tokenizer.encode_source_framed(text, &prepared.framing)?;
        let limit = self.model.config.source.longest_sequence();
        let truncated = tokens.len().saturating_sub(limit);
        if truncated > 0 {
            // The end token stays, so that the model sees a sentence that ends.
            tokens.drain(limit - 1..tokens.len() - 1);
        }
        Ok(Source { tokens, truncated })
    }

    /// Gives a request to the scheduler.
    pub(crate) fn submit(&self, request: Request) -> Result<()> {
        let taken = self.scheduler.submit_when_there_is_room(request);
        taken.map_err(|rejected| tfm_model::Error::from(rejected.reason).into())
    }

    /// How many requests a stream submits at a time: twice as many as the workers decode together.
    pub(crate) fn stream_depth(&self) -> usize {
        2 * self.scheduler.capacity()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.scheduler.stats()
    }
}

impl Engine {
    /// What the hypotheses say, the best of them first.
    pub(crate) fn translation(
        &self,
        prepared: &Prepared,
        source: &Source,
        found: Vec<Hypothesis>,
    ) -> Result<Translation> {
        let found = found.iter().map(|hypothesis| self.alternative(prepared, source, hypothesis));
        let mut found = found.collect::<Result<Vec<_>>>()?.into_iter();
        let Some(best) = found.next() else { return Ok(Translation::default()) };
        let Alternative { text, score, tokens, finished, alignment } = best;
        let (alternatives, truncated) = (found.collect(), source.truncated);
        Ok(Translation { text, score, tokens, finished, alignment, alternatives, truncated })
    }

    fn alternative(
        &self,
        prepared: &Prepared,
        source: &Source,
        found: &Hypothesis,
    ) -> Result<Alternative> {
        let aligned = || self.align(prepared, source, &found.tokens);
        Ok(Alternative {
            text: self.target_text(&found.tokens)?,
            score: found.score,
            tokens: self.target_tokens(&found.tokens),
            finished: found.finished,
            alignment: prepared.alignments.then(aligned).transpose()?,
        })
    }

    /// The text of target tokens.
    pub(crate) fn target_text(&self, ids: &[u32]) -> Result<String> {
        Ok(self.model.tokenizer.decode_target(ids)?)
    }

    /// Target tokens, as the vocabulary writes them.
    pub(crate) fn target_tokens(&self, ids: &[u32]) -> Vec<String> {
        let token = |&id| self.model.tokenizer.target_token(id).unwrap_or_default().into_owned();
        ids.iter().map(token).collect()
    }

    /// Source tokens, as the vocabulary writes them.
    pub(crate) fn source_tokens(&self, ids: &[u32]) -> Vec<String> {
        let token = |&id| self.model.tokenizer.source_token(id).unwrap_or_default().into_owned();
        ids.iter().map(token).collect()
    }
}
