//! The programs of generation, each compiled once for its shape.

use super::shortlists::ShortlistShape;
use crate::config::Config;
use crate::generation::Output;
use crate::numerics::Numerics;
use crate::transformer::{Among, CacheRows, DecoderKeys, Listed, Network, Sequences};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use tfm_core::{CompileOptions, DType, Graph, Program, Result, Session, Shape, Value};

/// The shape of an encoding: all source tokens of the sentences admitted together, and a few that
/// are of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EncodeShape {
    pub(super) tokens: usize,
    /// At most as many as tokens but for empty ones.
    pub(super) sequences: usize,
    pub(super) cache_rows: CacheRows,
}

/// Hypotheses, next to each other in a step, of which the same is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    pub(super) output: Output,
    /// The row of the table of bans that is theirs.
    pub(super) bans: usize,
    /// How many hypotheses.
    pub(super) rows: usize,
    /// How many candidates of each.
    pub(super) candidates: usize,
}

impl Segment {
    /// How many tensors the step's program returns of it: values, ids, and normalisers if wanted.
    /// Of whole rows there are ids only where they are of a list.
    pub(super) fn outputs(&self, listed: bool) -> usize {
        match self.output {
            Output::Row if !listed => 1,
            Output::LogProbabilities { normalizers: true, .. } => 3,
            _ => 2,
        }
    }
}

/// The segments of a step, in the order of its hypotheses.
pub(super) type Segments = SmallVec<[Segment; 1]>;

/// The shape of a decoding step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StepShape {
    /// The width of the row table.
    pub(super) width: usize,
    pub(super) segments: Segments,
    /// Rows of the table of bans.
    pub(super) ban_sets: usize,
    /// Whether the decoder's states are wanted as well.
    pub(super) states: bool,
    /// Where hypotheses choose among lists.
    pub(super) shortlist: Option<ShortlistShape>,
    pub(super) cache_rows: CacheRows,
}

/// The shape of a search for more candidates of some hypotheses of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DeeperShape {
    pub(super) rows: usize,
    /// How many candidates of each.
    pub(super) candidates: usize,
    /// Rows of the table of bans, and which of them is theirs.
    pub(super) ban_sets: usize,
    pub(super) bans: usize,
}

/// Compiled programs by shape, of all workers on forks of one session.
#[derive(Default)]
pub(super) struct Programs {
    encode: ProgramCache<EncodeShape>,
    step: ProgramCache<StepShape>,
    deeper: ProgramCache<DeeperShape>,
}

type ProgramCache<K> = Mutex<HashMap<K, Program>>;

/// The most programs of a kind that are kept. A plan is a few tens of kilobytes.
const MOST_PROGRAMS: usize = 512;

/// The program of a shape, compiled if there is none. Nobody waits for a compilation: two workers
/// that want one at the same time both compile it.
fn cached<K: Eq + Hash + Clone>(
    programs: &ProgramCache<K>,
    key: &K,
    compile: impl FnOnce() -> Result<Program>,
) -> Result<Program> {
    let lock = || programs.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = lock().get(key) {
        return Ok(program.clone());
    }
    let program = compile()?;
    let mut programs = lock();
    if programs.len() >= MOST_PROGRAMS {
        programs.clear();
    }
    programs.insert(key.clone(), program.clone());
    Ok(program)
}

impl Programs {
    /// Encodes sentences and writes their cross-attention keys and values to the caches. Inputs:
    /// `tokens`, `positions`, `source_offsets`, `source_ranges`, `cross_rows`; states: the
    /// cross-attention caches.
    pub(super) fn encode(
        &self,
        session: &mut Session,
        config: &Config,
        numerics: Numerics,
        shape: EncodeShape,
    ) -> Result<Program> {
        cached(&self.encode, &shape, || {
            let EncodeShape { tokens: t, sequences, cache_rows } = shape;
            let mut net = Network::new(config, numerics);
            let tokens = net.graph.indices("tokens", config.source.vocabulary, [t]);
            let positions = net.graph.indices("positions", config.source.longest_sequence(), [t]);
            let sources = Sequences::input(&mut net.graph, "source", sequences, t, t);
            let memory = net.encoder(tokens, positions, sources);
            let rows = net.graph.indices("cross_rows", cache_rows.cross, [t]);
            net.write_cross_keys(memory, rows, cache_rows.cross);
            session.compile(&net.graph, &CompileOptions::default())
        })
    }

    /// Advances hypotheses by one token. Inputs: `tokens`, `positions`, `new_rows`, `row_table`,
    /// `lengths`, `cross_offsets`, `cross_ranges`, with a shortlist also `columns`, `lists`,
    /// `list_lengths`, `list_of`; states: all caches and `bans`; outputs, for each segment: the
    /// candidates' log-probabilities (or logits) and ids, then the normalisers if wanted; at the
    /// end the decoder's states `[n, d_model]` if wanted.
    pub(super) fn step(
        &self,
        session: &mut Session,
        config: &Config,
        numerics: Numerics,
        shape: &StepShape,
    ) -> Result<Program> {
        cached(&self.step, shape, || {
            let n = shape.segments.iter().map(|segment| segment.rows).sum();
            let (width, cache_rows, vocabulary) =
                (shape.width, shape.cache_rows, config.target.vocabulary);
            let mut net = Network::new(config, numerics);
            let tokens = net.graph.indices("tokens", vocabulary, [n]);
            let positions = net.graph.indices("positions", config.target.longest_sequence(), [n]);
            let keys = DecoderKeys::Step {
                cache_rows,
                new_rows: net.graph.indices("new_rows", cache_rows.own, [n]),
                row_table: net.graph.indices("row_table", cache_rows.own, [n, width]),
                lengths: net.graph.indices("lengths", width + 1, [n]),
                // There are at most as many sentences as hypotheses; sequences that are not there
                // are empty. So the program does not depend on how the hypotheses are shared among
                // the sentences.
                cross: Sequences::input(&mut net.graph, "cross", n, n, cache_rows.cross),
            };
            let all_bans = net.graph.state("bans", DType::F32, [shape.ban_sets, vocabulary]);
            let listed = shape.shortlist.map(|ShortlistShape { columns, lists, width }| Listed {
                columns: net.graph.indices("columns", vocabulary, [columns]),
                lists: net.graph.indices("lists", columns, [lists, width]),
                lengths: net.graph.indices("list_lengths", width + 1, [lists]),
                list_of: net.graph.indices("list_of", lists, [n]),
            });
            let states = net.decoder(tokens, positions, keys);
            let mut start = 0;
            for segment in &shape.segments {
                let rows = |graph: &mut Graph, x: Value| match segment.rows {
                    rows if rows == n => x,
                    rows => graph.slice(x, 0, start, rows),
                };
                let x = rows(&mut net.graph, states);
                let bans = net.graph.slice(all_bans, 0, segment.bans, 1);
                let bans = net.graph.reshape(bans, [vocabulary]);
                let listed = listed.map(|listed| Listed {
                    list_of: rows(&mut net.graph, listed.list_of),
                    ..listed
                });
                segment_outputs(&mut net, x, bans, listed, segment);
                start += segment.rows;
            }
            if shape.states {
                let states = net.graph.cast(states, DType::F32);
                net.graph.output(states);
            }
            session.compile(&net.graph, &CompileOptions::default())
        })
    }

    /// Finds candidates of the decoder's `states`, an input `[rows, d_model]`. State: `bans`;
    /// outputs: the candidates' log-probabilities and ids.
    pub(super) fn deeper(
        &self,
        session: &mut Session,
        config: &Config,
        numerics: Numerics,
        shape: DeeperShape,
    ) -> Result<Program> {
        cached(&self.deeper, &shape, || {
            let DeeperShape { rows, candidates, ban_sets, bans } = shape;
            let vocabulary = config.target.vocabulary;
            let mut net = Network::new(config, numerics);
            let states = net.graph.input("states", DType::F32, [rows, config.d_model]);
            let states = net.graph.cast(states, numerics.dtype);
            let all_bans = net.graph.state("bans", DType::F32, [ban_sets, vocabulary]);
            let bans = net.graph.slice(all_bans, 0, bans, 1);
            let bans = net.graph.reshape(bans, [vocabulary]);
            let found = net.candidates(states, Among::LogProbabilities, bans, candidates);
            found.into_iter().take(2).for_each(|value| net.graph.output(value));
            session.compile(&net.graph, &CompileOptions::default())
        })
    }
}

/// Makes what is wanted of a segment the graph's next outputs.
fn segment_outputs(
    net: &mut Network<'_>,
    x: Value,
    bans: Value,
    listed: Option<Listed>,
    segment: &Segment,
) {
    let k = segment.candidates;
    let (renormalized, normalizers) = match segment.output {
        Output::Logits | Output::Row => (false, false),
        Output::LogProbabilities { renormalized, normalizers } => (renormalized, normalizers),
    };
    if segment.output == Output::Row {
        return row_outputs(net, x, bans, listed);
    }
    let among = match (listed, segment.output) {
        (Some(listed), _) => Among::Listed(listed),
        (None, Output::Logits) => Among::Logits,
        (None, _) => Among::LogProbabilities,
    };
    if listed.is_some() || !(renormalized || normalizers) {
        let found = net.candidates(x, among, bans, k);
        found
            .into_iter()
            .take(segment.outputs(listed.is_some()))
            .for_each(|value| net.graph.output(value));
        return;
    }
    let mut logits = net.logits(x);
    let graph = &mut net.graph;
    let mut bias = bans;
    if renormalized {
        logits = graph.add(logits, bias);
        bias = graph.constant(0.0, DType::F32);
        bias = graph.broadcast(bias, [graph.shape(logits)[1]]);
    }
    let (values, ids) = graph.top_log_probabilities(logits, bias, k);
    graph.output(values);
    graph.output(ids);
    if normalizers {
        // log Σ exp x = x₀ − log softmax(x)₀
        let log_probabilities = graph.log_softmax(logits);
        let firsts = [logits, log_probabilities].map(|x| graph.slice(x, 1, 0, 1));
        let normalizers = graph.sub(firsts[0], firsts[1]);
        graph.output(normalizers);
    }
}

/// Makes the logits of all tokens the graph's next output, or those of the tokens of a list and the
/// tokens.
fn row_outputs(net: &mut Network<'_>, x: Value, bans: Value, listed: Option<Listed>) {
    let Some(listed) = listed else {
        let logits = net.logits(x);
        return net.graph.output(logits);
    };
    let width = net.graph.shape(listed.lists)[1];
    let found = net.candidates(x, Among::Listed(listed), bans, width);
    let graph = &mut net.graph;
    let normalizers = graph.reshape(found[2], [graph.shape(x)[0], 1]);
    let logits = graph.add(found[0], normalizers);
    graph.output(logits);
    graph.output(found[1]);
}

/// Copies the state `old` to the first rows of the state `new`. Input: `ids`, the rows' numbers.
pub(super) fn copy_rows(
    session: &mut Session,
    dtype: DType,
    old: &Shape,
    new: &Shape,
) -> Result<Program> {
    let mut graph = Graph::new();
    let source: Value = graph.state("old", dtype, old.clone());
    let target = graph.state("new", dtype, new.clone());
    let ids = graph.indices("ids", old[0].max(1), [old[0]]);
    graph.write_rows(target, source, ids);
    session.compile(&graph, &CompileOptions::default())
}

/// Replaces a row of the state `state` by the input `row`. Input: `ids`, which is its number.
pub(super) fn set_row(session: &mut Session, shape: &Shape) -> Result<Program> {
    let mut graph = Graph::new();
    let target = graph.state("state", DType::F32, shape.clone());
    let row = graph.input("row", DType::F32, [1, shape[1]]);
    let ids = graph.indices("ids", shape[0], [1]);
    graph.write_rows(target, row, ids);
    session.compile(&graph, &CompileOptions::default())
}
