//! Law 7: a row or a sequence gets the same bits alone and in any batch, on any number of threads; where a library computes
//! products, the same but for rounding.

use super::harness::Check;
use super::single_ops::{compare, same_bits};
use super::{Config, Failure, Report};
use crate::fused::{
    Activation, Attention, Embedding, EmbeddingOperands, Linear, LinearOperands, Precision,
    RowTableAttention, TopOfShortlist,
};
use crate::testing::recipe::pick;
use crate::testing::recipes::{Lists, Ragged, bias_table, heads, list, relative_bias, row_tables};
use crate::testing::{Builder, Disguise, Problem, Recipe, Subject, Tally, Weights};
use crate::{CompileOptions, DType, Layout, Shape, Tensor, Value};
use proptest::prelude::*;
use proptest::sample::select;
use std::ops::Range;
use std::sync::Arc;

/// Builds the problem of some of the rows (or sequences) of a batch.
type Build = Arc<dyn Fn(&mut Builder, Range<usize>) + Send + Sync>;

/// A batch of rows, each computed by itself.
#[derive(Clone)]
struct Batch {
    description: String,
    rows: usize,
    threads: usize,
    dtype: DType,
    seed: u64,
    build: Build,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Batch { description, rows, threads, dtype, seed, .. } = self;
        write!(f, "{dtype} {description}, batch {rows}, {threads} threads (data seed {seed})")
    }
}

impl Batch {
    fn problem(&self, rows: Range<usize>) -> Problem {
        let build = self.build.clone();
        let recipe =
            Recipe::new(String::new(), self.dtype, self.seed, move |b| build(b, rows.clone()));
        recipe.problem(Disguise::None, Weights::Parameters)
    }

    fn run(&self, subject: &dyn Subject, rows: Range<usize>, threads: usize) -> Outputs {
        let problem = self.problem(rows);
        let session = subject.session(problem.parameters.clone(), 1);
        let mut worker = session.fork(threads).map_err(|error| error.to_string())?;
        problem.run(&mut worker, &CompileOptions::default())
    }

    /// Compares some rows alone with the same rows in the batch. `part` says where the rows' results lie.
    fn check(
        &self,
        subject: &dyn Subject,
        part: impl Fn(usize) -> Range<usize>,
    ) -> Result<Tally, String> {
        let all = self.run(subject, 0..self.rows, self.threads)?;
        let mut tally = Tally::default();
        // The first, the last and one between; the first half together.
        let single = [0, self.rows / 3, self.rows.saturating_sub(1)].map(|row| row..row + 1);
        for rows in single.into_iter().chain(std::iter::once(0..self.rows / 2)) {
            if rows.is_empty() || rows.end > self.rows {
                continue;
            }
            let alone = self.run(subject, rows.clone(), 1)?;
            let (start, end) = (part(rows.start).start, part(rows.end - 1).end);
            let among: Vec<Tensor> = all.iter().map(|output| rows_of(output, start..end)).collect();
            let compared = match subject.keeps_bits() {
                true => same_bits(&alone, &among),
                false => compare(&self.problem(rows.clone()), alone.iter().zip(&among)),
            };
            let found = compared.map_err(|problem| format!("rows {rows:?}: {problem}"))?;
            tally = tally.and(found);
        }
        Ok(tally)
    }
}

type Outputs = Result<Vec<Tensor>, String>;

/// Some rows of a tensor.
fn rows_of(tensor: &Tensor, rows: Range<usize>) -> Tensor {
    pick(tensor, &Layout::contiguous(tensor.shape()).slice(0, rows.start, rows.len()))
}

/// An input of some rows of a tensor of `all` rows, which is drawn whole.
fn some_rows(b: &mut Builder, all: usize, row: &[usize], rows: &Range<usize>, scale: f64) -> Value {
    let shape: Shape = [all].into_iter().chain(row.iter().copied()).collect();
    let whole = b.data.tensor(b.dtype, &shape, scale);
    b.tensor(rows_of(&whole, rows.clone()))
}

/// Law 7.
pub(super) fn law(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let check = |name| Check { law: 7, name, subject, config };
    let rows = check("rows").run(120, &row_batches(subject.dtypes()), |batch: &Batch| {
        batch.check(subject, |row| row..row + 1)
    })?;
    let ragged =
        check("Attention").run(60, &ragged_batches(subject.dtypes()), |(batch, ragged)| {
            let offsets = ragged.offsets();
            batch.check(subject, |s| offsets[s] as usize..offsets[s + 1] as usize)
        })?;
    let tables = table_batches(subject.dtypes());
    let tables = check("RowTableAttention")
        .run(60, &tables, |batch: &Batch| batch.check(subject, |row| row..row + 1))?;
    let lists =
        check("TopOfShortlist").run(60, &list_batches(subject.dtypes()), |batch: &Batch| {
            batch.check(subject, |row| row..row + 1)
        })?;
    Ok(rows.and(ragged).and(tables).and(lists))
}

/// What is computed of each row.
#[derive(Debug, Clone, Copy)]
enum RowOp {
    Linear(Linear),
    Joined,
    LayerNorm,
    RmsNorm,
    Softmax { log: bool },
    Activate(Activation),
    Embedding(Precision),
    Top(usize),
}

fn row_batches(dtypes: &[DType]) -> impl Strategy<Value = Batch> {
    let activation = proptest::option::of(select(&Activation::ALL[..]));
    let precision = select(&Precision::ALL[..]);
    let linear = (any::<[bool; 2]>(), activation, precision.clone()).prop_map(
        |([bias, residual], activation, precision)| {
            RowOp::Linear(Linear { bias, activation, residual, precision })
        },
    );
    let op = prop_oneof![
        4 => linear,
        1 => Just(RowOp::Joined),
        1 => Just(RowOp::LayerNorm),
        1 => Just(RowOp::RmsNorm),
        1 => any::<bool>().prop_map(|log| RowOp::Softmax { log }),
        1 => select(&Activation::ALL[..]).prop_map(RowOp::Activate),
        1 => precision.prop_map(RowOp::Embedding),
        1 => (1..9usize).prop_map(RowOp::Top),
    ];
    let sizes = (1..=70usize, 1..=300usize, 1..=90usize, 1..=3usize);
    (select(dtypes.to_vec()), any::<u64>().no_shrink(), op, sizes).prop_map(
        |(dtype, seed, op, (rows, k, n, threads))| Batch {
            description: format!("{op:?} of width {k}, to {n}"),
            rows,
            threads,
            dtype,
            seed,
            build: Arc::new(move |b, some| row_op(b, op, rows, &some, k, n)),
        },
    )
}

fn row_op(b: &mut Builder, op: RowOp, all: usize, rows: &Range<usize>, k: usize, n: usize) {
    let x = some_rows(b, all, &[k], rows, 1.0);
    let results = match op {
        RowOp::Linear(linear) => {
            let operands = LinearOperands {
                x,
                weight: b.weight([n, k], 0.2),
                bias: linear.bias.then(|| b.weight([n], 1.0)),
                residual: linear.residual.then(|| some_rows(b, all, &[n], rows, 1.0)),
            };
            vec![b.graph.fused(linear, &operands.list())]
        }
        RowOp::Joined => (0..3)
            .map(|_| {
                let (weight, bias) = (b.weight([n, k], 0.2), b.weight([n], 1.0));
                b.graph.linear(x, weight, Some(bias))
            })
            .collect(),
        RowOp::LayerNorm => {
            let (weight, bias) = (b.weight([k], 1.0), b.weight([k], 1.0));
            vec![b.graph.layer_norm(x, weight, bias, 1e-5)]
        }
        RowOp::RmsNorm => {
            let weight = b.weight([k], 1.0);
            vec![b.graph.rms_norm(x, weight, 1e-6)]
        }
        RowOp::Softmax { log: true } => vec![b.graph.log_softmax(x)],
        RowOp::Softmax { log: false } => vec![b.graph.softmax(x)],
        RowOp::Activate(activation) => vec![b.graph.activate(activation, x)],
        RowOp::Embedding(precision) => {
            let ids: Vec<i32> = (0..all).map(|_| b.data.below(n) as i32).collect();
            let ids = b.indices(n, [rows.len()], ids[rows.clone()].to_vec());
            let positions: Vec<i32> = (0..all as i32).collect();
            let positions = b.indices(all, [rows.len()], positions[rows.clone()].to_vec());
            let (table, encoding) = (b.weight([n, k], 0.3), b.weight([all, k], 1.0));
            let op = Embedding { scale: 16.0, positions: true, precision, ..Embedding::default() };
            let (positions, position_table) = (Some(positions), Some(encoding));
            let operands = EmbeddingOperands { ids, table, positions, position_table };
            vec![b.graph.fused(op, &operands.list())]
        }
        RowOp::Top(wanted) => {
            let bias = b.weight([k], 0.5);
            let (values, ids) = b.graph.top_log_probabilities(x, bias, wanted.min(k));
            vec![values, ids]
        }
    };
    results.into_iter().for_each(|result| b.graph.output(result));
}

fn ragged_batches(dtypes: &[DType]) -> impl Strategy<Value = (Batch, Ragged)> {
    let ragged = Ragged::strategy(8, (0..=20usize).boxed(), (0..=30usize).boxed());
    let how = (any::<bool>(), relative_bias(), 1..=3usize);
    (select(dtypes.to_vec()), any::<u64>().no_shrink(), ragged, heads(), how).prop_map(
        |(dtype, seed, ragged, (heads, d_head), (causal, bias, threads))| {
            let scale = 1.0 / (d_head as f64).sqrt();
            let op = Attention { scale, causal, bias, ..Attention::default() };
            let batch = ragged.clone();
            let build: Build = Arc::new(move |b, some| {
                let offsets = batch.offsets();
                let queries = offsets[some.start] as usize..offsets[some.end] as usize;
                let query = some_rows(b, batch.query_rows(), &[heads, d_head], &queries, 1.0);
                // One sequence comes with its own keys alone, several with all there are.
                let (first, length) = match &batch.keys[some.clone()] {
                    [(start, length)] => (*start, *length),
                    _ => (0, batch.rows),
                };
                let rows = first..first + length;
                let key = some_rows(b, batch.rows, &[heads, d_head], &rows, 1.0);
                let value = some_rows(b, batch.rows, &[heads, d_head], &rows, 1.0);
                let shifted = some.clone().map(|s| batch.keys[s]);
                let ranges: Vec<i32> = shifted
                    .flat_map(|(start, length)| [(start - first) as i32, length as i32])
                    .collect();
                let starts: Vec<i32> = offsets[some.start..=some.end]
                    .iter()
                    .map(|end| end - offsets[some.start])
                    .collect();
                let starts = b.integers([some.len() + 1], starts);
                let ranges = b.integers([some.len(), 2], ranges);
                let mut operands = vec![query, key, value, starts, ranges];
                operands.extend(op.bias.map(|bias| bias_table(b, bias, heads)));
                let y = b.graph.fused(op, &operands);
                b.graph.output(y);
            });
            let description = format!("{op:?} of {heads}×{d_head}, {ragged:?}");
            let rows = ragged.queries.len();
            (Batch { description, rows, threads, dtype, seed, build }, ragged)
        },
    )
}

fn table_batches(dtypes: &[DType]) -> impl Strategy<Value = Batch> {
    let lengths = proptest::collection::vec(0..=30usize, 1..=70);
    let how = (relative_bias(), 1..=3usize);
    (select(dtypes.to_vec()), any::<u64>().no_shrink(), lengths, heads(), how).prop_map(
        |(dtype, seed, lengths, (heads, d_head), (bias, threads))| {
            let op = RowTableAttention { scale: 1.0 / (d_head as f64).sqrt(), bias };
            let description = format!("{op:?} of {heads}×{d_head}, {lengths:?}");
            let (rows, width, pool) = (lengths.len(), 30, 60);
            let build: Build = Arc::new(move |b, some| {
                let table = row_tables(&mut b.data, &lengths, width, pool);
                let query = some_rows(b, rows, &[heads, d_head], &some, 1.0);
                let key = some_rows(b, pool, &[heads, d_head], &(0..pool), 1.0);
                let value = some_rows(b, pool, &[heads, d_head], &(0..pool), 1.0);
                let part = table[some.start * width..some.end * width].to_vec();
                let table = b.integers([some.len(), width], part);
                let lengths = lengths[some.clone()].iter().map(|&length| length as i32).collect();
                let lengths = b.integers([some.len()], lengths);
                let mut operands = vec![query, key, value, table, lengths];
                operands.extend(op.bias.map(|bias| bias_table(b, bias, heads)));
                let y = b.graph.fused(op, &operands);
                b.graph.output(y);
            });
            Batch { description, rows, threads, dtype, seed, build }
        },
    )
}

/// Rows with a list each: neither the lists of the others nor the order of the columns matters.
fn list_batches(dtypes: &[DType]) -> impl Strategy<Value = Batch> {
    let sizes = (1..=40usize, 1..=700usize, 1..=90usize, 1..=9usize);
    let how = (any::<bool>(), select(&Precision::ALL[..]), 1..=3usize);
    (select(dtypes.to_vec()), any::<u64>().no_shrink(), sizes, how).prop_map(
        |(dtype, seed, (rows, v, d, k), (bias, precision, threads))| {
            let op = TopOfShortlist { bias, k: k.min(v), precision };
            let description = format!("{op:?} of {v} tokens, from {d}");
            let build: Build = Arc::new(move |b, some| {
                let x = some_rows(b, rows, &[d], &some, 1.0);
                let weight = b.weight([v, d], 0.5);
                let bias = op.bias.then(|| b.weight([v], 1.0));
                let layer = LinearOperands { x, weight, bias, residual: None };
                let bans = b.data.tensor(DType::F32, &[v].into(), 0.1);
                let bans = b.weight_of(bans);
                let all: Vec<Vec<i32>> = (0..rows).map(|_| list(&mut b.data, v)).collect();
                let lists = Lists::new(&mut b.data, &all[some.clone()], v, v);
                let list_of = (0..some.len() as i32).collect();
                let operands = lists.operands(b, layer, bans, list_of);
                let top = b.graph.fused_all(op, &operands.list());
                // Beyond the end of a list the ids are those of what the columns happen to have.
                let [values, ids] = [top[0], top[1]];
                let least = b.graph.constant(f64::MIN, DType::F32);
                let listed = b.graph.less(least, values);
                let none = b.graph.constant_like(-1.0, ids);
                let ids = b.graph.select(listed, ids, none);
                [values, ids, top[2]].into_iter().for_each(|result| b.graph.output(result));
            });
            Batch { description, rows, threads, dtype, seed, build }
        },
    )
}
