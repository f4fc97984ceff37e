//! Teacher forcing: passes over whole targets that are known, for encoder outputs, logits,
//! log-probabilities and alignments.

use crate::config::Config;
use crate::error::Result;
use crate::numerics::Numerics;
use crate::pairs::{Pair, Pairs, check};
use crate::transformer::Network;
use std::sync::Arc;
use tfm_core::op::ReduceOp;
use tfm_core::{CompileOptions, DType, Graph, HostSlice, Session, Tensor};

/// Runs the model over known targets on one session, each position after the true tokens before it.
pub struct TeacherForcing {
    session: Session,
    config: Arc<Config>,
    numerics: Numerics,
}

impl TeacherForcing {
    /// For the model of `config`, whose parameters the session has.
    pub fn new(session: Session, config: Arc<Config>, numerics: Numerics) -> Self {
        TeacherForcing { session, config, numerics }
    }

    /// The encoder's outputs, the sources one after the other: `[t, d_model]`.
    ///
    /// # Errors
    /// A source that is too long or out of vocabulary; the backend's.
    pub fn encode(&mut self, sources: &[&[u32]]) -> Result<Tensor> {
        let pairs: Vec<_> = sources.iter().map(|source| Pair { source, target: &[] }).collect();
        let batch = Pairs::new(&self.config, &pairs)?;
        let config = self.config.clone();
        let mut net = Network::new(&config, self.numerics);
        let memory = batch.encoder(&mut net);
        let memory = net.graph.cast(memory, DType::F32);
        net.graph.output(memory);
        self.run(&net.graph, &batch, &[], Vec::new()).map(|mut outputs| outputs.remove(0))
    }

    /// The logits at every position of the targets, one after the other: `[t, v]`.
    ///
    /// # Errors
    /// As [`TeacherForcing::encode`], for targets too.
    pub fn logits(&mut self, pairs: &[Pair<'_>]) -> Result<Tensor> {
        let batch = Pairs::new(&self.config, pairs)?;
        let config = self.config.clone();
        let mut net = Network::new(&config, self.numerics);
        let logits = batch.logits(&mut net);
        net.graph.output(logits);
        self.run(&net.graph, &batch, &[], Vec::new()).map(|mut outputs| outputs.remove(0))
    }

    /// The natural logarithm of the probability of each `next` token: of `next[i]` after
    /// `target[..= i]`, the pairs one after the other. `next` has as many tokens as the targets.
    ///
    /// # Errors
    /// As [`TeacherForcing::logits`].
    ///
    /// # Panics
    /// If `next` has another length.
    pub fn log_probabilities(&mut self, pairs: &[Pair<'_>], next: &[u32]) -> Result<Vec<f32>> {
        let batch = Pairs::new(&self.config, pairs)?;
        let (t, v) = (batch.target_tokens(), self.config.target.vocabulary);
        assert_eq!(next.len(), t, "one next token for each target token");
        check(next, v)?;
        let config = self.config.clone();
        let mut net = Network::new(&config, self.numerics);
        let logits = batch.logits(&mut net);
        let g = &mut net.graph;
        // The element of each row that belongs to the next token, by its number.
        let next_ids = g.indices("next", v, [t]);
        let column = g.reshape(next_ids, [t, 1]);
        let vocabulary = g.iota(v);
        let chosen = g.equal(vocabulary, column);
        let log_probabilities = g.log_softmax(logits);
        let chosen = g.cast(chosen, DType::F32);
        let zero = g.constant(0.0, DType::F32);
        let picked = g.select(chosen, log_probabilities, zero);
        let picked = g.reduce(ReduceOp::Sum, picked, 1);
        g.output(picked);
        let next: Vec<i32> = next.iter().map(|&token| token as i32).collect();
        let outputs =
            self.run(&net.graph, &batch, &[("next", HostSlice::I32(&next))], Vec::new())?;
        Ok(outputs[0].as_f32().expect("the program returns f32").to_vec())
    }

    /// The cross-attention of one pair: for each target position a distribution over the source's
    /// tokens, `[target, source]` row-major, the mean over the heads of `layer`.
    ///
    /// # Errors
    /// As [`TeacherForcing::logits`].
    pub fn alignment(&mut self, pair: Pair<'_>, layer: usize) -> Result<Vec<f32>> {
        let batch = Pairs::new(&self.config, &[pair])?;
        let config = self.config.clone();
        let mut net = Network::new(&config, self.numerics);
        batch.logits(&mut net);
        let tap = format!("decoder.layers.{layer}.cross_attention.weights");
        let outputs = self.run(&net.graph, &batch, &[], vec![tap])?;
        let weights = outputs[0].to_f64(); // [heads, target, source]
        let heads = self.config.cross_attention.count;
        let size = pair.target.len() * pair.source.len();
        let mean = |i: usize| {
            (0..heads).map(|head| weights[head * size + i] as f32).sum::<f32>() / heads as f32
        };
        Ok((0..size).map(mean).collect())
    }

    fn run(
        &mut self,
        graph: &Graph,
        batch: &Pairs,
        more: &[(&str, HostSlice<'_>)],
        taps: Vec<String>,
    ) -> Result<Vec<Tensor>> {
        let program =
            self.session.compile(graph, &CompileOptions { taps, ..Default::default() })?;
        let mut inputs = batch.inputs();
        inputs.extend_from_slice(more);
        Ok(self.session.run(&program, &inputs, &mut [])?)
    }
}
