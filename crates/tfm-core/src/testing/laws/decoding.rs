//! Laws 5 and 6: decoding step by step from a pool of keys and values.

use super::harness::Check;
use super::single_ops::{SLACK, same_bits};
use super::{Config, Failure, Report};
use crate::fused::{Attention, RelativeBias, RowTableAttention};
use crate::testing::recipes::{heads, relative_bias};
use crate::testing::{Data, Disguise, Problem, Recipe, Subject, Tally, Weights};
use crate::{
    CompileOptions, DType, DeviceTensor, Graph, NoParameters, Session, Shape, Tensor, Value,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::HashMap;
use std::sync::Arc;

/// Hypotheses that grow by one token a step, some of them replaced by copies of others before each step.
#[derive(Debug, Clone)]
struct Decoding {
    dtype: DType,
    hypotheses: usize,
    steps: usize,
    heads: usize,
    d_head: usize,
    bias: Option<RelativeBias>,
    /// Whether hypotheses change places.
    reorders: bool,
    seed: u64,
}

fn decodings(dtypes: &[DType], reorders: bool) -> impl Strategy<Value = Decoding> {
    let sizes = (1..=6usize, 1..=12usize);
    (select(dtypes.to_vec()), sizes, heads(), relative_bias(), any::<u64>().no_shrink()).prop_map(
        move |(dtype, (hypotheses, steps), (heads, d_head), bias, seed)| Decoding {
            dtype,
            hypotheses,
            steps,
            heads,
            d_head,
            bias,
            reorders,
            seed,
        },
    )
}

/// Law 5: step by step with a pool gives what attention over the whole sequence gives.
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
        let row = decoding.heads * decoding.d_head;
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

/// Law 6: after reorders of the row table, a step gives the bits that it gives when keys and values are
/// computed again in the new order.
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

/// A row of the pool: a position of a hypothesis, with what was drawn for it.
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
        let pool = || {
            let shape = [decoding.pool_rows(), decoding.heads, decoding.d_head];
            session.allocate(decoding.dtype, shape).map_err(|error| error.to_string())
        };
        Ok(Run {
            data: Data::new(decoding.seed),
            keys: pool()?,
            values: pool()?,
            histories: vec![Vec::new(); decoding.hypotheses],
            session,
            decoding,
        })
    }

    /// Rows of the pool that no hypothesis holds.
    fn free_rows(&mut self) -> Vec<i32> {
        let mut free = self.data.distinct(self.decoding.pool_rows(), self.decoding.pool_rows());
        free.retain(|row| !self.histories.iter().flatten().any(|position| position.row == *row));
        free
    }

    /// Draws a token for each hypothesis, writes its key and value to the pool, and attends.
    fn step(&mut self) -> Result<Tensor, String> {
        let Decoding { dtype, hypotheses, heads, d_head, .. } = *self.decoding;
        if self.decoding.reorders {
            let parents: Vec<usize> =
                (0..hypotheses).map(|_| self.data.below(hypotheses)).collect();
            self.histories = parents.iter().map(|&parent| self.histories[parent].clone()).collect();
        }
        let free = self.free_rows();
        for (history, &row) in self.histories.iter_mut().zip(&free) {
            let mut draw = || {
                (0..heads * d_head)
                    .map(|_| round(self.data.number(1.0), dtype))
                    .collect::<Vec<f64>>()
            };
            history.push(Position { row, query: draw(), key: draw(), value: draw() });
        }
        let newest = || self.histories.iter().map(|history| &history[history.len() - 1]);
        let shape: Shape = [hypotheses, heads, d_head].into();
        let new = |part: fn(&Position) -> &Vec<f64>| {
            let values = newest().flat_map(part).copied();
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
            ("query", new(|position| &position.query)),
            ("key", new(|position| &position.key)),
            ("value", new(|position| &position.value)),
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

    /// The newest step again, in a new session whose pool has each hypothesis' rows in order.
    fn recompute(&self, subject: &dyn Subject) -> Result<Tensor, String> {
        let Decoding { dtype, hypotheses, heads, d_head, .. } = *self.decoding;
        let length = self.histories[0].len();
        let pool = |part: fn(&Position) -> &Vec<f64>| {
            let values = self.histories.iter().flatten().flat_map(part).copied();
            crate::reference::tensor_from_f64(
                values,
                dtype,
                &[hypotheses * length, heads, d_head].into(),
            )
        };
        let queries = self.histories.iter().flat_map(|history| &history[length - 1].query).copied();
        let queries =
            crate::reference::tensor_from_f64(queries, dtype, &[hypotheses, heads, d_head].into());
        let inputs = HashMap::from([
            ("query", queries),
            ("keys", pool(|position| &position.key)),
            ("values", pool(|position| &position.value)),
        ]);
        let mut graph = Graph::new();
        let [query, keys, values] = ["query", "keys", "values"]
            .map(|name| graph.input(name, dtype, inputs[name].shape().clone()));
        let table = graph.indices("table", hypotheses * length, [hypotheses, length]);
        let lengths = graph.indices("lengths", length + 1, [hypotheses]);
        let context = self.decoding.attend(&mut graph, [query, keys, values, table, lengths]);
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
        let Decoding { dtype, hypotheses, heads, d_head, seed, .. } = *self.decoding;
        let length = self.histories[0].len();
        let RowTableAttention { scale, bias } = self.decoding.op();
        let op = Attention { scale, causal: true, bias, ..Attention::default() };
        let biases = self.decoding.biases();
        let all = |part: fn(&Position) -> &Vec<f64>| -> Vec<f64> {
            self.histories.iter().flatten().flat_map(part).copied().collect()
        };
        let (queries, keys, values) = (all(|p| &p.query), all(|p| &p.key), all(|p| &p.value));
        let recipe = Recipe::new(String::new(), dtype, seed, move |b| {
            let shape = [hypotheses * length, heads, d_head];
            let [query, key, value] =
                [&queries, &keys, &values].map(|values| b.values(shape, values.clone()));
            let starts = (0..=hypotheses).map(|i| (i * length) as i32).collect();
            let ranges =
                (0..hypotheses).flat_map(|i| [(i * length) as i32, length as i32]).collect();
            let starts = b.integers([hypotheses + 1], starts);
            let ranges = b.integers([hypotheses, 2], ranges);
            let mut operands = vec![query, key, value, starts, ranges];
            operands.extend(biases.clone().map(|biases| b.tensor(biases)));
            let context = b.graph.fused(op, &operands);
            b.graph.output(context);
        });
        recipe.problem(Disguise::None, Weights::Inputs)
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
    fn pool_rows(&self) -> usize {
        self.hypotheses * (self.steps + 1) + 1
    }

    fn op(&self) -> RowTableAttention {
        RowTableAttention { scale: 1.0 / (self.d_head as f64).sqrt(), bias: self.bias }
    }

    /// The table of biases, if there is one.
    fn biases(&self) -> Option<Tensor> {
        let bias = self.bias?;
        let shape = Shape::from([bias.buckets, self.heads]);
        Some(Data::new(self.seed).part(1).tensor(DType::F32, &shape, 2.0))
    }

    /// Attention of a step; its biases are an input.
    fn attend(&self, graph: &mut Graph, operands: [Value; 5]) -> Value {
        let mut operands = operands.to_vec();
        let shape = |bias: RelativeBias| [bias.buckets, self.heads];
        operands.extend(self.bias.map(|bias| graph.input("bias", DType::F32, shape(bias))));
        graph.fused(self.op(), &operands)
    }

    fn step_graph(&self, width: usize, hypotheses: usize) -> Graph {
        let Decoding { dtype, heads, d_head, .. } = *self;
        let mut graph = Graph::new();
        let [query, key, value] = ["query", "key", "value"]
            .map(|name| graph.input(name, dtype, [hypotheses, heads, d_head]));
        let rows = graph.indices("rows", self.pool_rows(), [hypotheses]);
        let table = graph.indices("table", self.pool_rows(), [hypotheses, width]);
        let lengths = graph.indices("lengths", width + 1, [hypotheses]);
        let [keys, values] = ["keys", "values"]
            .map(|name| graph.state(name, dtype, [self.pool_rows(), heads, d_head]));
        let keys = graph.write_rows(keys, key, rows);
        let values = graph.write_rows(values, value, rows);
        let context = self.attend(&mut graph, [query, keys, values, table, lengths]);
        graph.output(context);
        graph
    }
}
