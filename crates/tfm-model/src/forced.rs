//! Passes over whole targets that are known: encoder outputs, logits, log-probabilities, alignments.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::transformer::{DecoderKeys, Network, Sequences};
use std::sync::Arc;
use tfm_core::op::ReduceOp;
use tfm_core::{CompileOptions, DType, Graph, HostSlice, Session, Tensor, Value};

/// A source and a target, as token ids. The target begins with the decoder's start token.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The source.
    pub source: &'a [u32],
    /// What the decoder reads.
    pub target: &'a [u32],
}

/// Runs the model over known targets on one session.
pub struct Forced {
    session: Session,
    config: Arc<Config>,
}

impl Forced {
    /// For the model of `config`, whose parameters the session has.
    pub fn new(session: Session, config: Arc<Config>) -> Self {
        Forced { session, config }
    }

    /// The encoder's outputs, the sources one after the other: `[t, d_model]`.
    ///
    /// # Errors
    /// A source that is too long or out of vocabulary; the backend's.
    pub fn encode(&mut self, sources: &[&[u32]]) -> Result<Tensor> {
        let pairs: Vec<_> = sources.iter().map(|source| Pair { source, target: &[] }).collect();
        let batch = Batch::new(&self.config, &pairs)?;
        let config = self.config.clone();
        let mut net = Network::new(&config);
        let memory = batch.encoder(&mut net);
        net.graph.output(memory);
        self.run(&net.graph, &batch, &[], Vec::new()).map(|mut outputs| outputs.remove(0))
    }

    /// The logits at every position of the targets, one after the other: `[t, v]`.
    ///
    /// # Errors
    /// As [`Forced::encode`], for targets too.
    pub fn logits(&mut self, pairs: &[Pair<'_>]) -> Result<Tensor> {
        let batch = Batch::new(&self.config, pairs)?;
        let config = self.config.clone();
        let mut net = Network::new(&config);
        let logits = batch.decoder(&mut net);
        net.graph.output(logits);
        self.run(&net.graph, &batch, &[], Vec::new()).map(|mut outputs| outputs.remove(0))
    }

    /// The natural logarithm of the probability of each `next` token: of `next[i]` after `target[..= i]`,
    /// the pairs one after the other. `next` has as many tokens as the targets.
    ///
    /// # Errors
    /// As [`Forced::logits`].
    pub fn log_probabilities(&mut self, pairs: &[Pair<'_>], next: &[u32]) -> Result<Vec<f32>> {
        let batch = Batch::new(&self.config, pairs)?;
        let (t, v) = (batch.targets.tokens.len(), self.config.target_vocabulary);
        assert_eq!(next.len(), t, "one next token for each target token");
        check(next, v)?;
        let config = self.config.clone();
        let mut net = Network::new(&config);
        let logits = batch.decoder(&mut net);
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

    /// The cross-attention of one pair: for each target position a distribution over the source's tokens,
    /// `[target, source]` row-major, the mean over the heads of `layer`.
    ///
    /// # Errors
    /// As [`Forced::logits`].
    pub fn alignment(&mut self, pair: Pair<'_>, layer: usize) -> Result<Vec<f32>> {
        let batch = Batch::new(&self.config, &[pair])?;
        let config = self.config.clone();
        let mut net = Network::new(&config);
        batch.decoder(&mut net);
        let tap = format!("decoder.layers.{layer}.cross_attention.weights");
        let outputs = self.run(&net.graph, &batch, &[], vec![tap])?;
        let weights = outputs[0].as_f32().expect("attention weights are f32"); // [heads, target, source]
        let heads = self.config.decoder.heads;
        let size = pair.target.len() * pair.source.len();
        let mean =
            |i: usize| (0..heads).map(|head| weights[head * size + i]).sum::<f32>() / heads as f32;
        Ok((0..size).map(mean).collect())
    }

    fn run(
        &mut self,
        graph: &Graph,
        batch: &Batch,
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

/// The inputs of a pass over pairs.
struct Batch {
    sources: Ragged,
    targets: Ragged,
    /// Each target's source: first row and length.
    cross_ranges: Vec<i32>,
}

/// Sequences one after the other.
#[derive(Default)]
struct Ragged {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    offsets: Vec<i32>,
    ranges: Vec<i32>,
}

impl Ragged {
    fn new<'a>(
        sequences: impl Iterator<Item = &'a [u32]>,
        config: &Config,
        vocabulary: usize,
    ) -> Result<Self> {
        let mut ragged = Ragged { offsets: vec![0], ..Default::default() };
        for (id, sequence) in sequences.enumerate() {
            if sequence.len() > config.max_positions {
                let (length, limit) = (sequence.len(), config.max_positions);
                return Err(Error::SourceTooLong { id, length, limit });
            }
            check(sequence, vocabulary)?;
            ragged.ranges.extend([ragged.tokens.len() as i32, sequence.len() as i32]);
            ragged.tokens.extend(sequence.iter().map(|&token| token as i32));
            ragged.positions.extend(0..sequence.len() as i32);
            ragged.offsets.push(ragged.tokens.len() as i32);
        }
        Ok(ragged)
    }
}

fn check(tokens: &[u32], vocabulary: usize) -> Result<()> {
    match tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocabulary) {
        Some((id, &token)) => Err(Error::TokenOutOfVocabulary { id, token, vocabulary }),
        None => Ok(()),
    }
}

impl Batch {
    fn new(config: &Config, pairs: &[Pair<'_>]) -> Result<Self> {
        let sources = pairs.iter().map(|pair| pair.source);
        let targets = pairs.iter().map(|pair| pair.target);
        let sources = Ragged::new(sources, config, config.source_vocabulary)?;
        let cross_ranges = sources.ranges.clone();
        Ok(Batch {
            sources,
            targets: Ragged::new(targets, config, config.target_vocabulary)?,
            cross_ranges,
        })
    }

    fn encoder(&self, net: &mut Network<'_>) -> Value {
        let (t, n) = (self.sources.tokens.len(), self.sources.offsets.len() - 1);
        let tokens = net.graph.indices("source_tokens", net.config.source_vocabulary, [t]);
        let positions = net.graph.indices("source_positions", net.config.max_positions, [t]);
        let sequences = Sequences::input(&mut net.graph, "source", n, t, t);
        net.encoder(tokens, positions, sequences)
    }

    fn decoder(&self, net: &mut Network<'_>) -> Value {
        let memory = self.encoder(net);
        let (s, t, n) =
            (self.sources.tokens.len(), self.targets.tokens.len(), self.targets.offsets.len() - 1);
        let tokens = net.graph.indices("target_tokens", net.config.target_vocabulary, [t]);
        let positions = net.graph.indices("target_positions", net.config.max_positions, [t]);
        let targets = Sequences::input(&mut net.graph, "target", n, t, t);
        let key_ranges = net.graph.indices("cross_ranges", s + 1, [n, 2]);
        let cross = Sequences { query_offsets: targets.query_offsets, key_ranges };
        net.decoder(tokens, positions, DecoderKeys::Whole { targets, memory, cross })
    }

    fn inputs(&self) -> Vec<(&'static str, HostSlice<'_>)> {
        let i32s = |data| HostSlice::I32(data);
        vec![
            ("source_tokens", i32s(&self.sources.tokens)),
            ("source_positions", i32s(&self.sources.positions)),
            ("source_offsets", i32s(&self.sources.offsets)),
            ("source_ranges", i32s(&self.sources.ranges)),
            ("target_tokens", i32s(&self.targets.tokens)),
            ("target_positions", i32s(&self.targets.positions)),
            ("target_offsets", i32s(&self.targets.offsets)),
            ("target_ranges", i32s(&self.targets.ranges)),
            ("cross_ranges", i32s(&self.cross_ranges)),
        ]
    }
}
