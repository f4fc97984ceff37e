//! Laws 5 and 6: decoding step by step from a cache of keys and values.

use super::harness::Check;
use super::single_ops::{SLACK, same_bits};
use super::{Config, Failure, Report};
use crate::fused::{Attention, AttentionOperands, KeyLookup, KeyRows, KeySet};
use crate::testing::recipes::{Heads, heads, key_set, soft_cap};
use crate::testing::{Data, OperandLayout, Problem, Recipe, Subject, Tally, Weights};
use crate::{
    CompileOptions, DType, DeviceTensor, Graph, NoParameters, Session, Shape, Tensor, Value,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::HashMap;
use std::sync::Arc;

/// Hypotheses that grow by one token a step, some of them replaced by copies of others before each
/// step.
#[derive(Debug, Clone)]
struct Decoding {
    dtype: DType,
    hypotheses: usize,
    steps: usize,
    heads: Heads,
    soft_cap: Option<f64>,
    /// How a step sees its keys.
    keys: KeySet,
    /// Whether a beam search reorders the hypotheses.
    reorders: bool,
    seed: u64,
}

fn decodings(dtypes: &[DType], reorders: bool) -> impl Strategy<Value = Decoding> {
    let sizes = (1..=6usize, 1..=12usize);
    let how = (heads(), soft_cap(), key_set());
    (select(dtypes.to_vec()), sizes, how, any::<u64>().no_shrink()).prop_map(
        move |(dtype, (hypotheses, steps), (heads, soft_cap, set), seed)| {
            let keys = KeySet { lookup: KeyLookup::Table, ..set };
            Decoding { dtype, hypotheses, steps, heads, soft_cap, keys, reorders, seed }
        },
    )
}

/// Law 5: decoding step by step with a cache gives what attention over the whole sequence gives.
pub(super) fn cached(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let check = Check { law: 5, name: "cached decoding", subject, config };
    check.run(60, &decodings(subject.dtypes(), false), |decoding: &Decoding| {
        let mut run = Run::new(decoding, subject)?;
        let contexts: Vec<Tensor> =
            (0..decoding.steps).map(|_| run.step()).collect::<Result<_, String>>()?;
        // The full forward pass has the hypotheses one after the other, the steps one at a time.
        let problem = run.whole_sequences();
        let mut session = subject.poisoned_session(problem.parameters.clone(), 1);
        let full = problem.run(&mut session, &CompileOptions::default())?;
        let row = decoding.heads.query * decoding.heads.size;
        let steps: Vec<Vec<f64>> = contexts.iter().map(Tensor::to_f64).collect();
        let stacked: Vec<f64> = (0..decoding.hypotheses)
            .flat_map(|i| steps.iter().flat_map(move |step| &step[i * row..(i + 1) * row]))
            .copied()
            .collect();
        let stacked =
            crate::reference::tensor_from_f64(stacked.into_iter(), decoding.dtype, full[0].shape());
        problem.bounds()?[0].check_pair(&full[0], &stacked, SLACK)
    })
}

/// Law 6: after reorders of the row table, a step gives the bits that it gives when keys and values
/// are computed again in the new order.
pub(super) fn reorder(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let check = Check { law: 6, name: "beam reorder", subject, config };
    check.run(60, &decodings(subject.dtypes(), true), |decoding: &Decoding| {
        let mut run = Run::new(decoding, subject)?;
        for _ in 0..decoding.steps {
            let context = run.step()?;
            let recomputed = run.recompute(subject)?;
            same_bits(&[context], &[recomputed])?;
        }
        Ok(Tally::default())
    })
}

/// A row of the cache: a position of a hypothesis, with what was drawn for it.
#[derive(Debug, Clone)]
struct Position {
    row: i32,
    query: Vec<f64>,
    key: Vec<f64>,
    value: Vec<f64>,
}

/// A decoding under way.
struct Run<'a> {
    decoding: &'a Decoding,
    data: Data,
    session: Session,
    keys: DeviceTensor,
    values: DeviceTensor,
    histories: Vec<Vec<Position>>,
}

impl<'a> Run<'a> {
    fn new(decoding: &'a Decoding, subject: &dyn Subject) -> Result<Self, String> {
        let session = subject.poisoned_session(Arc::new(NoParameters), 1);
        let cache = || {
            let shape = [decoding.cache_rows(), decoding.heads.key, decoding.heads.size];
            session.allocate(decoding.dtype, shape).map_err(|error| error.to_string())
        };
        Ok(Run {
            data: Data::new(decoding.seed),
            keys: cache()?,
            values: cache()?,
            histories: vec![Vec::new(); decoding.hypotheses],
            session,
            decoding,
        })
    }

    /// Rows of the cache that no hypothesis holds.
    fn free_rows(&mut self) -> Vec<i32> {
        let mut free = self.data.distinct(self.decoding.cache_rows(), self.decoding.cache_rows());
        free.retain(|row| !self.histories.iter().flatten().any(|position| position.row == *row));
        free
    }

    /// Draws a token for each hypothesis, writes its key and value to the cache, and attends.
    fn step(&mut self) -> Result<Tensor, String> {
        let Decoding { dtype, hypotheses, heads, .. } = *self.decoding;
        if self.decoding.reorders {
            let parents: Vec<usize> =
                (0..hypotheses).map(|_| self.data.below(hypotheses)).collect();
            self.histories = parents.iter().map(|&parent| self.histories[parent].clone()).collect();
        }
        let free = self.free_rows();
        for (history, &row) in self.histories.iter_mut().zip(&free) {
            let mut draw = |heads_of_row: usize| {
                (0..heads_of_row * heads.size)
                    .map(|_| round(self.data.number(1.0), dtype))
                    .collect::<Vec<f64>>()
            };
            let [query, key, value] = [heads.query, heads.key, heads.key].map(&mut draw);
            history.push(Position { row, query, key, value });
        }
        let newest = || self.histories.iter().map(|history| &history[history.len() - 1]);
        let new = |heads_of_row: usize, part: fn(&Position) -> &Vec<f64>| {
            let values = newest().flat_map(part).copied();
            let shape = Shape::from([hypotheses, heads_of_row, heads.size]);
            crate::reference::tensor_from_f64(values, dtype, &shape)
        };
        let rows: Vec<i32> = newest().map(|position| position.row).collect();

        let width = self.histories[0].len() + self.data.below(3);
        let table: Vec<i32> = self
            .histories
            .iter()
            .flat_map(|history| {
                let rows = history.iter().map(|position| position.row);
                rows.chain(std::iter::repeat(rows_end(&free))).take(width).collect::<Vec<i32>>()
            })
            .collect();
        let lengths = vec![self.histories[0].len() as i32; hypotheses];
        let graph = self.decoding.step_graph(width, hypotheses);
        let program = self.session.compile(&graph, &CompileOptions::default());
        let inputs = [
            ("query", new(heads.query, |position| &position.query)),
            ("key", new(heads.key, |position| &position.key)),
            ("value", new(heads.key, |position| &position.value)),
        ];
        let mut inputs: Vec<_> =
            inputs.iter().map(|(name, tensor)| (*name, tensor.as_slice())).collect();
        inputs.extend([
            ("rows", rows[..].into()),
            ("table", table[..].into()),
            ("lengths", lengths[..].into()),
        ]);
        let biases = self.decoding.biases();
        inputs.extend(biases.iter().map(|biases| ("bias", biases.as_slice())));
        let states = &mut [("keys", &mut self.keys), ("values", &mut self.values)];
        let outputs = program.and_then(|program| self.session.run(&program, &inputs, states));
        outputs.map(|mut outputs| outputs.remove(0)).map_err(|error| error.to_string())
    }

    /// The newest step again, in a new session whose cache has each hypothesis' rows in order.
    fn recompute(&self, subject: &dyn Subject) -> Result<Tensor, String> {
        let Decoding { dtype, hypotheses, heads, .. } = *self.decoding;
        let length = self.histories[0].len();
        let cache = |part: fn(&Position) -> &Vec<f64>| {
            let values = self.histories.iter().flatten().flat_map(part).copied();
            crate::reference::tensor_from_f64(
                values,
                dtype,
                &[hypotheses * length, heads.key, heads.size].into(),
            )
        };
        let queries = self.histories.iter().flat_map(|history| &history[length - 1].query).copied();
        let shape = Shape::from([hypotheses, heads.query, heads.size]);
        let queries = crate::reference::tensor_from_f64(queries, dtype, &shape);
        let inputs = HashMap::from([
            ("query", queries),
            ("keys", cache(|position| &position.key)),
            ("values", cache(|position| &position.value)),
        ]);
        let mut graph = Graph::new();
        let [query, keys, values] = ["query", "keys", "values"]
            .map(|name| graph.input(name, dtype, inputs[name].shape().clone()));
        let table = graph.indices("table", hypotheses * length, [hypotheses, length]);
        let lengths = graph.indices("lengths", length + 1, [hypotheses]);
        let context = self.decoding.attend(&mut graph, query, [keys, values], [table, lengths]);
        graph.output(context);
        let rows: Vec<i32> = (0..(hypotheses * length) as i32).collect();
        let lengths = vec![length as i32; hypotheses];
        let mut bindings: Vec<_> =
            inputs.iter().map(|(name, tensor)| (*name, tensor.as_slice())).collect();
        bindings.extend([("table", rows[..].into()), ("lengths", lengths[..].into())]);
        let biases = self.decoding.biases();
        bindings.extend(biases.iter().map(|biases| ("bias", biases.as_slice())));
        let mut session = subject.poisoned_session(Arc::new(NoParameters), 1);
        let program = session.compile(&graph, &CompileOptions::default());
        let outputs = program.and_then(|program| session.run(&program, &bindings, &mut []));
        outputs.map(|mut outputs| outputs.remove(0)).map_err(|error| error.to_string())
    }

    /// Causal attention over all hypotheses' whole sequences.
    fn whole_sequences(&self) -> Problem {
        let Decoding { dtype, hypotheses, heads, seed, .. } = *self.decoding;
        let length = self.histories[0].len();
        let step = self.decoding.op();
        let keys = KeySet { lookup: KeyLookup::Ranges, causal: true, ..step.keys };
        let op = Attention { keys, ..step };
        let biases = self.decoding.biases();
        let all = |part: fn(&Position) -> &Vec<f64>| -> Vec<f64> {
            self.histories.iter().flatten().flat_map(part).copied().collect()
        };
        let (queries, keys, values) = (all(|p| &p.query), all(|p| &p.key), all(|p| &p.value));
        let recipe = Recipe::new(String::new(), dtype, seed, move |b| {
            let shape = |heads_of_row| [hypotheses * length, heads_of_row, heads.size];
            let query = b.values(shape(heads.query), queries.clone());
            let key_value = [&keys, &values].map(|x| b.values(shape(heads.key), x.clone()));
            let starts = (0..=hypotheses).map(|i| (i * length) as i32).collect();
            let ranges =
                (0..hypotheses).flat_map(|i| [(i * length) as i32, length as i32]).collect();
            let query_offsets = b.integers([hypotheses + 1], starts);
            let key_ranges = b.integers([hypotheses, 2], ranges);
            let rows = KeyRows::Ranges { query_offsets, key_ranges };
            let mut operands = AttentionOperands::new(query, key_value, rows);
            operands.keys.bias = biases.clone().map(|biases| b.tensor(biases));
            let context = b.graph.attention(op, operands);
            b.graph.output(context);
        });
        recipe.problem(OperandLayout::Contiguous, Weights::Inputs)
    }
}

/// A row that no hypothesis holds, for the unused ends of tables.
fn rows_end(free: &[i32]) -> i32 {
    free[free.len() - 1]
}

fn round(value: f64, dtype: DType) -> f64 {
    crate::reference::tensor_from_f64([value].into_iter(), dtype, &Shape::default()).to_f64()[0]
}

impl Decoding {
    /// Room for all hypotheses apart, and a row that stays unwritten.
    fn cache_rows(&self) -> usize {
        self.hypotheses * (self.steps + 1) + 1
    }

    fn op(&self) -> Attention {
        let scale = 1.0 / (self.heads.size as f64).sqrt();
        let (soft_cap, keys) = (self.soft_cap, self.keys);
        Attention { scale, soft_cap, keys, ..Attention::default() }
    }

    /// The table of biases, if there is one.
    fn biases(&self) -> Option<Tensor> {
        let bias = self.keys.bias?;
        let shape = Shape::from([bias.buckets, self.heads.query]);
        Some(Data::new(self.seed).part(1).tensor(DType::F32, &shape, 2.0))
    }

    /// Attention of a step; its biases are an input.
    fn attend(
        &self,
        graph: &mut Graph,
        query: Value,
        keys: [Value; 2],
        [row_table, lengths]: [Value; 2],
    ) -> Value {
        let rows = KeyRows::Table { row_table, lengths };
        let mut operands = AttentionOperands::new(query, keys, rows);
        operands.keys.bias = self
            .keys
            .bias
            .map(|bias| graph.input("bias", DType::F32, [bias.buckets, self.heads.query]));
        graph.attention(self.op(), operands)
    }

    fn step_graph(&self, width: usize, hypotheses: usize) -> Graph {
        let Decoding { dtype, heads, .. } = *self;
        let mut graph = Graph::new();
        let query = graph.input("query", dtype, [hypotheses, heads.query, heads.size]);
        let [key, value] = ["key", "value"]
            .map(|name| graph.input(name, dtype, [hypotheses, heads.key, heads.size]));
        let rows = graph.indices("rows", self.cache_rows(), [hypotheses]);
        let table = graph.indices("table", self.cache_rows(), [hypotheses, width]);
        let lengths = graph.indices("lengths", width + 1, [hypotheses]);
        let [keys, values] = ["keys", "values"]
            .map(|name| graph.state(name, dtype, [self.cache_rows(), heads.key, heads.size]));
        let keys = graph.write_rows(keys, key, rows);
        let values = graph.write_rows(values, value, rows);
        let context = self.attend(&mut graph, query, [keys, values], [table, lengths]);
        graph.output(context);
        graph
    }
}
