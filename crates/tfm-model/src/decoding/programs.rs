//! The programs of generation, each compiled once for its shape.

use super::shortlists::ShortlistShape;
use crate::config::Config;
use crate::generation::Output;
use crate::numerics::Numerics;
use crate::transformer::{DecoderKeys, Listed, Network, Pools, Sequences};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use tfm_core::{CompileOptions, DType, Program, Result, Session, Shape, Value};

/// The shape of an encoding: all source tokens of the sentences admitted together, and a few that are of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EncodeShape {
    pub(super) tokens: usize,
    /// At most as many as tokens but for empty ones.
    pub(super) sequences: usize,
    pub(super) pools: Pools,
}

/// The shape of a decoding step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StepShape {
    pub(super) hypotheses: usize,
    /// The width of the row table.
    pub(super) width: usize,
    /// What is wanted of each hypothesis, and of how many candidates.
    pub(super) output: Output,
    pub(super) candidates: usize,
    /// Where hypotheses choose among lists.
    pub(super) shortlist: Option<ShortlistShape>,
    pub(super) pools: Pools,
}

/// Compiled programs by shape, of all workers on forks of one session.
#[derive(Default)]
pub struct Programs {
    encode: Kept<EncodeShape>,
    step: Kept<StepShape>,
}

type Kept<K> = Mutex<HashMap<K, Program>>;

/// More programs of a kind than this are not kept; a plan is a few tens of kilobytes.
const KEPT: usize = 512;

/// The program of a shape, compiled if there is none. Nobody waits for a compilation: two workers that want one at the same
/// time both compile it.
fn cached<K: Eq + Hash + Copy>(
    programs: &Kept<K>,
    key: K,
    compile: impl FnOnce() -> Result<Program>,
) -> Result<Program> {
    let lock = || programs.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = lock().get(&key) {
        return Ok(program.clone());
    }
    let program = compile()?;
    let mut programs = lock();
    if programs.len() >= KEPT {
        programs.clear();
    }
    programs.insert(key, program.clone());
    Ok(program)
}

impl Programs {
    /// Encodes sentences and writes their cross-attention keys and values to the pools. Inputs: `tokens`,
    /// `positions`, `source_offsets`, `source_ranges`, `cross_rows`; states: the cross pools.
    pub(super) fn encode(
        &self,
        session: &mut Session,
        config: &Config,
        numerics: Numerics,
        shape: EncodeShape,
    ) -> Result<Program> {
        cached(&self.encode, shape, || {
            let EncodeShape { tokens: t, sequences, pools } = shape;
            let mut net = Network::new(config, numerics);
            let tokens = net.graph.indices("tokens", config.source.vocabulary, [t]);
            let positions = net.graph.indices("positions", config.source.longest_sequence(), [t]);
            let sources = Sequences::input(&mut net.graph, "source", sequences, t, t);
            let memory = net.encoder(tokens, positions, sources);
            let rows = net.graph.indices("cross_rows", pools.cross, [t]);
            net.write_cross_keys(memory, rows, pools.cross);
            session.compile(&net.graph, &CompileOptions::default())
        })
    }

    /// Advances hypotheses by one token. Inputs: `tokens`, `positions`, `new_rows`, `row_table`, `lengths`,
    /// `cross_offsets`, `cross_ranges`, with a shortlist also `columns`, `lists`, `list_lengths`, `list_of`; states: all pools and `bans`; outputs: the candidates'
    /// log-probabilities (or logits) and ids, then the normalisers if wanted.
    pub(super) fn step(
        &self,
        session: &mut Session,
        config: &Config,
        numerics: Numerics,
        shape: StepShape,
    ) -> Result<Program> {
        cached(&self.step, shape, || {
            let StepShape { hypotheses: n, width, output, candidates, pools, .. } = shape;
            let (logits_alone, renormalized, normalizers) = match output {
                Output::Logits => (true, false, false),
                Output::LogProbabilities { renormalized, normalizers } => {
                    (false, renormalized, normalizers)
                }
            };
            let vocabulary = config.target.vocabulary;
            let mut net = Network::new(config, numerics);
            let tokens = net.graph.indices("tokens", vocabulary, [n]);
            let positions = net.graph.indices("positions", config.target.longest_sequence(), [n]);
            let keys = DecoderKeys::Step {
                pools,
                new_rows: net.graph.indices("new_rows", pools.own, [n]),
                row_table: net.graph.indices("row_table", pools.own, [n, width]),
                lengths: net.graph.indices("lengths", width + 1, [n]),
                // There are at most as many sentences as hypotheses; sequences that are not there are empty.
                // So the program does not depend on how the hypotheses are shared among the sentences.
                cross: Sequences::input(&mut net.graph, "cross", n, n, pools.cross),
            };
            let bans = net.graph.state("bans", DType::F32, [1, vocabulary]);
            let bans = net.graph.reshape(bans, [vocabulary]);
            if let Some(ShortlistShape { columns, lists, width }) = shape.shortlist {
                let listed = Listed {
                    columns: net.graph.indices("columns", vocabulary, [columns]),
                    lists: net.graph.indices("lists", columns, [lists, width]),
                    lengths: net.graph.indices("list_lengths", width + 1, [lists]),
                    list_of: net.graph.indices("list_of", lists, [n]),
                };
                let found = net
                    .decoder_listed_candidates(tokens, positions, keys, bans, listed, candidates);
                let wanted = if normalizers { 3 } else { 2 };
                found.into_iter().take(wanted).for_each(|value| net.graph.output(value));
                return session.compile(&net.graph, &CompileOptions::default());
            }
            if !renormalized && !normalizers {
                let found = if logits_alone {
                    net.decoder_greatest(tokens, positions, keys, bans, candidates)
                } else {
                    net.decoder_candidates(tokens, positions, keys, bans, candidates)
                };
                found.into_iter().for_each(|value| net.graph.output(value));
                return session.compile(&net.graph, &CompileOptions::default());
            }
            let mut logits = net.decoder(tokens, positions, keys);
            let graph = &mut net.graph;
            let mut bias = bans;
            if renormalized {
                logits = graph.add(logits, bias);
                bias = graph.constant(0.0, DType::F32);
                bias = graph.broadcast(bias, [vocabulary]);
            }
            let (values, ids) = graph.top_log_probabilities(logits, bias, candidates);
            graph.output(values);
            graph.output(ids);
            if normalizers {
                // log Σ exp x = x₀ − log softmax(x)₀
                let log_probabilities = graph.log_softmax(logits);
                let firsts = [logits, log_probabilities].map(|x| graph.slice(x, 1, 0, 1));
                let normalizers = graph.sub(firsts[0], firsts[1]);
                graph.output(normalizers);
            }
            session.compile(&net.graph, &CompileOptions::default())
        })
    }
}

/// Copies the state `old` to the first rows of the state `new`. Input: `ids`, the rows' numbers.
pub(super) fn copy_rows(
    session: &mut Session,
    dtype: DType,
    old: &Shape,
    new: &Shape,
) -> Result<Program> {
    let mut graph = tfm_core::Graph::new();
    let source: Value = graph.state("old", dtype, old.clone());
    let target = graph.state("new", dtype, new.clone());
    let ids = graph.indices("ids", old[0].max(1), [old[0]]);
    graph.write_rows(target, source, ids);
    session.compile(&graph, &CompileOptions::default())
}

/// Replaces the one row of the state `state` by the input `row`. Input: `ids`, which is `[0]`.
pub(super) fn set_row(session: &mut Session, shape: &Shape) -> Result<Program> {
    let mut graph = tfm_core::Graph::new();
    let target = graph.state("state", DType::F32, shape.clone());
    let row = graph.input("row", DType::F32, shape.clone());
    let ids = graph.indices("ids", 1, [1]);
    graph.write_rows(target, row, ids);
    session.compile(&graph, &CompileOptions::default())
}
