//! Pairs of sources and targets as the ragged batch that a pass over whole targets takes.

use crate::config::{Config, Embedding};
use crate::error::{Error, Result};
use crate::transformer::{DecoderKeys, Network, Sequences};
use tfm_core::{HostSlice, Value};

/// A source and a target, as token ids. The target begins with the decoder's start token.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The source.
    pub source: &'a [u32],
    /// What the decoder reads.
    pub target: &'a [u32],
}

/// A ragged batch of pairs: the inputs of a pass over whole targets, in training and out of it.
pub struct Pairs {
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
    fn new<'a>(sequences: impl Iterator<Item = &'a [u32]>, embedding: &Embedding) -> Result<Self> {
        let mut ragged = Ragged { offsets: vec![0], ..Default::default() };
        for sequence in sequences {
            let (length, limit) = (sequence.len(), embedding.longest_sequence());
            if length > limit {
                return Err(Error::SequenceTooLong { length, limit });
            }
            check(sequence, embedding.vocabulary)?;
            ragged.ranges.extend([ragged.tokens.len() as i32, sequence.len() as i32]);
            ragged.tokens.extend(sequence.iter().map(|&token| token as i32));
            ragged.positions.extend(0..sequence.len() as i32);
            ragged.offsets.push(ragged.tokens.len() as i32);
        }
        Ok(ragged)
    }
}

/// Checks that tokens are of a vocabulary of that size.
pub(crate) fn check(tokens: &[u32], vocabulary: usize) -> Result<()> {
    match tokens.iter().find(|token| **token as usize >= vocabulary) {
        Some(&token) => Err(Error::TokenOutOfVocabulary { token, vocabulary }),
        None => Ok(()),
    }
}

impl Pairs {
    /// The batch of these pairs, for the model of `config`.
    ///
    /// # Errors
    /// A sequence that is longer than the model's positions, or a token that its vocabulary lacks.
    pub fn new(config: &Config, pairs: &[Pair<'_>]) -> Result<Self> {
        let sources = pairs.iter().map(|pair| pair.source);
        let targets = pairs.iter().map(|pair| pair.target);
        let sources = Ragged::new(sources, &config.source)?;
        let cross_ranges = sources.ranges.clone();
        Ok(Pairs { sources, targets: Ragged::new(targets, &config.target)?, cross_ranges })
    }

    /// How many tokens the sources have.
    pub fn source_tokens(&self) -> usize {
        self.sources.tokens.len()
    }

    /// How many tokens the targets have.
    pub fn target_tokens(&self) -> usize {
        self.targets.tokens.len()
    }

    /// Adds the encoder to the graph: its output `[s, d_model]`.
    pub fn encoder(&self, net: &mut Network<'_>) -> Value {
        let (t, n) = (self.sources.tokens.len(), self.sources.offsets.len() - 1);
        let tokens = net.graph.indices("source_tokens", net.config.source.vocabulary, [t]);
        let positions =
            net.graph.indices("source_positions", net.config.source.longest_sequence(), [t]);
        let sequences = Sequences::input(&mut net.graph, "source", n, t, t);
        net.encoder(tokens, positions, sequences)
    }

    /// Adds encoder and decoder to the graph: logits `[t, v]`.
    pub fn logits(&self, net: &mut Network<'_>) -> Value {
        let memory = self.encoder(net);
        let (s, t, n) =
            (self.sources.tokens.len(), self.targets.tokens.len(), self.targets.offsets.len() - 1);
        let tokens = net.graph.indices("target_tokens", net.config.target.vocabulary, [t]);
        let positions =
            net.graph.indices("target_positions", net.config.target.longest_sequence(), [t]);
        let targets = Sequences::input(&mut net.graph, "target", n, t, t);
        let key_ranges = net.graph.indices("cross_ranges", s + 1, [n, 2]);
        let cross = Sequences { query_offsets: targets.query_offsets, key_ranges };
        let states = net.decoder(tokens, positions, DecoderKeys::Whole { targets, memory, cross });
        net.logits(states)
    }

    /// The inputs of the graph, by name.
    pub fn inputs(&self) -> Vec<(&'static str, HostSlice<'_>)> {
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
