//! A model in training: its parameters and the optimiser's states, in device memory, and the
//! programs that change them.

mod graphs;
mod optimizer;

pub use optimizer::Rule;

use crate::error::{Error, Result};
use crate::initial::Weights;
pub(crate) use graphs::average_name;

use graphs::Graphs;
use std::collections::BTreeMap;
use std::sync::Arc;
use tfm_core::{CompileOptions, DeviceTensor, HostSlice, NotFinite, Session, Shape, Tensor};
use tfm_model::transformer::{Adapters, Learning, RANDOM_KEY};
use tfm_model::{Config, Pair, Pairs};

/// How to train a model, apart from the data and the learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// The optimiser.
    pub rule: Rule,
    /// Label smoothing: the share of the target's probability that the loss spreads over the
    /// vocabulary.
    pub smoothing: f64,
    /// The share of a parameter that is added to its gradient after clipping: weight decay as a
    /// part of the loss.
    pub gradient_decay: f64,
    /// The largest norm of the gradient of all parameters together; larger gradients are clipped.
    pub clip_norm: Option<f64>,
    /// The decay of the moving average of parameters, if one is kept.
    pub average_decay: Option<f64>,
    /// Scopes whose values are recomputed in the backward pass; see `Graph::gradients`.
    pub recompute: Vec<String>,
    /// The seed of dropout.
    pub seed: u64,
}

/// A source and its target.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// The source's tokens, its end included.
    pub source: &'a [u32],
    /// The target's tokens, its end included.
    pub target: &'a [u32],
}

/// The numbers of an update or a validation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// The summed loss of all target tokens.
    pub loss: f64,
    /// How many target tokens there were.
    pub target_tokens: usize,
    /// How many source and target tokens there were.
    pub tokens: usize,
    /// The norm of the gradient of the mean loss before clipping; 0 for a validation.
    pub gradient_norm: f64,
}

impl Outcome {
    /// The mean loss per target token.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.target_tokens.max(1) as f64
    }
}

/// A model in training on one session.
pub struct Learner {
    session: Session,
    config: Arc<Config>,
    learning: Learning,
    method: Method,
    /// The shapes of the trained parameters, by name.
    shapes: BTreeMap<String, Shape>,
    states: BTreeMap<String, DeviceTensor>,
    /// How many updates have been made.
    updates: u64,
}

impl Learner {
    /// A learner whose trained parameters begin as `weights`, by their canonical names. The session
    /// has all others as parameters.
    ///
    /// # Errors
    /// Errors of the backend.
    pub fn new(
        session: Session,
        config: Arc<Config>,
        learning: Learning,
        method: Method,
        weights: &Weights,
    ) -> Result<Self> {
        let mut states = BTreeMap::new();
        let mut shapes = BTreeMap::new();
        for name in &learning.learnt {
            let tensor =
                weights.0.get(name).ok_or_else(|| Error::MissingWeight { name: name.clone() })?;
            let shape = tensor.shape().clone();
            for (kind, shape) in method.rule.kept(&shape) {
                states.insert(graphs::kept_name(kind, name), zeros(&session, &shape)?);
            }
            if method.average_decay.is_some() {
                states.insert(average_name(name), session.upload(tensor)?);
            }
            states.insert(name.clone(), session.upload(tensor)?);
            shapes.insert(name.clone(), shape);
        }
        Ok(Learner { session, config, learning, method, shapes, states, updates: 0 })
    }

    /// How many updates have been made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The trained parameters and all states that are kept for them, by name.
    ///
    /// # Errors
    /// Errors of the backend.
    pub fn states(&self) -> Result<BTreeMap<String, Tensor>> {
        let download = |(name, state): (&String, &DeviceTensor)| {
            Ok((name.clone(), self.session.download(state)?))
        };
        self.states.iter().map(download).collect()
    }

    /// The part of [`Learner::states`] that a checkpoint keeps: all but accumulated gradients,
    /// which every update begins anew.
    ///
    /// # Errors
    /// Errors of the backend.
    pub fn lasting_states(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut states = self.states()?;
        states.retain(|name, _| !name.starts_with(&graphs::kept_name("gradient", "")));
        Ok(states)
    }

    /// Restores the states that a learner had after this many updates.
    ///
    /// # Errors
    /// A state that is missing or of another shape; errors of the backend.
    pub fn restore(&mut self, updates: u64, states: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, state) in &mut self.states {
            let tensor =
                states.get(name).ok_or_else(|| Error::MissingWeight { name: name.clone() })?;
            if tensor.shape() != state.shape() {
                return Err(Error::OtherShape {
                    name: name.clone(),
                    expected: state.shape().clone(),
                    found: tensor.shape().clone(),
                });
            }
            *state = self.session.upload(tensor)?;
        }
        self.updates = updates;
        Ok(())
    }

    /// The trained parameters as they are now, or their moving averages where those are kept.
    ///
    /// # Errors
    /// Errors of the backend.
    pub fn weights(&self) -> Result<Weights> {
        let mut weights = BTreeMap::new();
        for name in self.shapes.keys() {
            let averaged = self.states.get(&average_name(name));
            let state = averaged.unwrap_or(&self.states[name]);
            weights.insert(name.clone(), self.session.download(state)?);
        }
        Ok(Weights(weights))
    }

    /// Makes one update by the mean gradient over all target tokens of the batches, which are
    /// computed one after the other.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the loss or a gradient is not finite, and then nothing has changed;
    /// a sequence that is too long or out of the vocabulary; errors of the backend.
    pub fn update(&mut self, batches: &[&[Example<'_>]], learning_rate: f64) -> Result<Outcome> {
        let batches = batches.iter().map(|batch| Batch::new(&self.config, batch));
        let batches: Vec<Batch> = batches.collect::<Result<_>>()?;
        let mut outcome = Outcome::default();
        for batch in &batches {
            outcome.target_tokens += batch.pairs.target_tokens();
            outcome.tokens += batch.pairs.source_tokens() + batch.pairs.target_tokens();
        }
        let per_token = [1.0 / outcome.target_tokens.max(1) as f32];
        let rates = self.method.rule.rates(learning_rate, self.updates + 1);
        let graphs = self.graphs();
        if let [batch] = &batches[..] {
            let graph = graphs.update(&batch.pairs)?;
            let run = Call { graph: &graph, batch: Some(batch), per_token, rates, part: 0 };
            let results = self.run(&run)?;
            outcome.loss = results[0];
            outcome.gradient_norm = results[1];
            return self.accept(outcome, &run);
        }
        for (part, batch) in batches.iter().enumerate() {
            self.gradient_states()?;
            let graph = self.graphs().accumulate(&batch.pairs, part > 0)?;
            let run =
                Call { graph: &graph, batch: Some(batch), per_token, rates, part: part as u64 };
            outcome.loss += self.run(&run)?[0];
            if !outcome.loss.is_finite() {
                return self.accept(outcome, &run);
            }
        }
        let graph = self.graphs().finish()?;
        let run = Call { graph: &graph, batch: None, per_token, rates, part: 0 };
        outcome.gradient_norm = self.run(&run)?[0];
        self.accept(outcome, &run)
    }

    /// The cross-entropy of a batch, without smoothing, dropout or an update; computed with the
    /// moving averages where those are kept.
    ///
    /// # Errors
    /// As [`Learner::update`].
    pub fn validate(&mut self, batch: &[Example<'_>]) -> Result<Outcome> {
        let batch = Batch::new(&self.config, batch)?;
        let graph = self.graphs().validate(&batch.pairs)?;
        let run =
            Call { graph: &graph, batch: Some(&batch), per_token: [1.0], rates: [0.0; 3], part: 0 };
        let program = self.session.compile(run.graph, &CompileOptions::default())?;
        let key = self.key(run.part);
        let averages = graphs::kept_name("average", "");
        let has_averages = self.method.average_decay.is_some();
        let states = self.states.iter_mut().filter_map(|(name, state)| match has_averages {
            true => Some((name.strip_prefix(&averages)?, state)),
            false => Some((name.as_str(), state)),
        });
        let mut states: Vec<(&str, &mut DeviceTensor)> = states.collect();
        let results = self.session.run(&program, &run.inputs(&key), &mut states)?;
        let loss = results[0].to_f64()[0];
        let target_tokens = batch.pairs.target_tokens();
        let tokens = batch.pairs.source_tokens() + target_tokens;
        Ok(Outcome { loss, target_tokens, tokens, gradient_norm: 0.0 })
    }

    /// The gradients of the mean loss of a batch, by parameter. Nothing changes.
    ///
    /// # Errors
    /// As [`Learner::update`].
    pub fn gradients(
        &mut self,
        batch: &[Example<'_>],
    ) -> Result<(Outcome, BTreeMap<String, Tensor>)> {
        let batch = Batch::new(&self.config, batch)?;
        let target_tokens = batch.pairs.target_tokens();
        let per_token = [1.0 / target_tokens.max(1) as f32];
        let (graph, names) = self.graphs().gradients(&batch.pairs)?;
        let run = Call { graph: &graph, batch: Some(&batch), per_token, rates: [0.0; 3], part: 0 };
        let mut results = self.tensors(&run)?;
        let loss = results.remove(0).to_f64()[0];
        let gradients: BTreeMap<String, Tensor> = names.into_iter().zip(results).collect();
        let squares = gradients.values().flat_map(Tensor::to_f64).map(|x| x * x);
        let gradient_norm = squares.sum::<f64>().sqrt();
        let tokens = batch.pairs.source_tokens() + target_tokens;
        Ok((Outcome { loss, target_tokens, tokens, gradient_norm }, gradients))
    }

    fn graphs(&self) -> Graphs<'_> {
        Graphs { config: &self.config, learning: &self.learning, method: &self.method }
    }

    /// Allocates memory for accumulated gradients when they are first needed.
    fn gradient_states(&mut self) -> Result<()> {
        for (name, shape) in &self.shapes {
            let name = graphs::kept_name("gradient", name);
            if !self.states.contains_key(&name) {
                self.states.insert(name, zeros(&self.session, shape)?);
            }
        }
        Ok(())
    }

    /// Counts an update whose numbers are finite; otherwise finds the op that made the first other
    /// one.
    fn accept(&mut self, outcome: Outcome, run: &Call<'_>) -> Result<Outcome> {
        if outcome.loss.is_finite() && outcome.gradient_norm.is_finite() {
            self.updates += 1;
            return Ok(outcome);
        }
        let place = self.first_not_finite(run)?;
        Err(Error::NotFinite { update: self.updates + 1, loss: outcome.mean_loss(), place })
    }

    fn first_not_finite(&mut self, run: &Call<'_>) -> Result<Option<NotFinite>> {
        let key = self.key(run.part);
        let program = self.session.compile(run.graph, &CompileOptions::default())?;
        let inputs = run.inputs(&key);
        let mut states: Vec<(&str, &mut DeviceTensor)> =
            self.states.iter_mut().map(|(name, state)| (name.as_str(), state)).collect();
        Ok(self.session.first_not_finite(&program, &inputs, &mut states)?)
    }

    fn run(&mut self, run: &Call<'_>) -> Result<Vec<f64>> {
        Ok(self.tensors(run)?.iter().map(|tensor| tensor.to_f64()[0]).collect())
    }

    fn tensors(&mut self, run: &Call<'_>) -> Result<Vec<Tensor>> {
        let key = self.key(run.part);
        let program = self.session.compile(run.graph, &CompileOptions::default())?;
        let inputs = run.inputs(&key);
        let mut states: Vec<(&str, &mut DeviceTensor)> =
            self.states.iter_mut().map(|(name, state)| (name.as_str(), state)).collect();
        Ok(self.session.run(&program, &inputs, &mut states)?)
    }

    /// The key of the random numbers of one batch of the next update.
    fn key(&self, part: u64) -> [i32; 3] {
        // An update has few batches; its own number takes the other bits of the word.
        let step = self.updates.wrapping_mul(1 << 8).wrapping_add(part);
        [self.method.seed as i32, (self.method.seed >> 32) as i32, step as i32]
    }
}

/// One run of a graph with its inputs.
struct Call<'a> {
    graph: &'a tfm_core::Graph,
    batch: Option<&'a Batch>,
    per_token: [f32; 1],
    rates: [f32; 3],
    part: u64,
}

impl Call<'_> {
    fn inputs<'b>(&'b self, key: &'b [i32; 3]) -> Vec<(&'b str, HostSlice<'b>)> {
        let mut inputs = Vec::new();
        if let Some(batch) = self.batch {
            inputs = batch.pairs.inputs();
            inputs.push((graphs::LABELS, HostSlice::I32(&batch.labels)));
        }
        inputs.push((graphs::PER_TOKEN, HostSlice::F32(&self.per_token)));
        inputs.push((graphs::RATES, HostSlice::F32(&self.rates)));
        inputs.push((RANDOM_KEY, HostSlice::I32(key)));
        inputs
    }
}

/// Examples as the graphs take them: the decoder reads its start token before each target.
struct Batch {
    pairs: Pairs,
    labels: Vec<i32>,
}

impl Batch {
    fn new(config: &Config, examples: &[Example<'_>]) -> Result<Self> {
        let start = config.special.decoder_start;
        let read = |target: &[u32]| -> Vec<u32> {
            let before = target.split_last().map_or(&[][..], |(_, before)| before);
            [start].iter().chain(before).copied().take(target.len()).collect()
        };
        let targets: Vec<Vec<u32>> = examples.iter().map(|example| read(example.target)).collect();
        let pairs: Vec<Pair<'_>> = examples
            .iter()
            .zip(&targets)
            .map(|(example, target)| Pair { source: example.source, target })
            .collect();
        let labels = examples.iter().flat_map(|example| example.target).map(|&id| id as i32);
        Ok(Batch { pairs: Pairs::new(config, &pairs)?, labels: labels.collect() })
    }
}

fn zeros(session: &Session, shape: &Shape) -> Result<DeviceTensor> {
    let zeros = Tensor::from_f32(shape.clone(), vec![0.0; shape.elements()])?;
    Ok(session.upload(&zeros)?)
}

/// The names and shapes of the low-rank factors of a model's linear layers; none without adapters.
pub fn adapter_shapes(config: &Config, learning: &Learning) -> Vec<(String, Shape)> {
    let Some(adapters) = &learning.adapters else { return Vec::new() };
    let linears = tfm_model::learnable(config).into_iter().filter_map(|(name, shape)| {
        let scope = name.strip_suffix(".weight").filter(|scope| adapters.has(scope))?;
        (shape.len() == 2).then(|| (scope.to_string(), shape))
    });
    linears
        .flat_map(|(scope, weight)| {
            let shapes = tfm_model::transformer::adapter_shapes(&weight, adapters.rank);
            Adapters::names(&scope).into_iter().zip(shapes)
        })
        .collect()
}
