//! Law 7: a row or a sequence gets the same bits alone and in any batch, on any number of threads.
//! Where a library computes products, it gets the same up to rounding.

use super::harness::Check;
use super::single_ops::{compare, same_bits};
use super::{Config, Failure, Report};
use crate::fused::{
    Activation, Attention, AttentionOperands, Embedding, EmbeddingOperands, Fused, KeyOperands,
    KeyRows, KeySet, Linear, LinearOperands, Precision, TopOfShortlist,
};
use crate::op::Op;
use crate::testing::recipe::pick;
use crate::testing::recipes::{
    Heads, KeySource, Lists, Ragged, RowLists, bias_table, heads, key_set, list, row_tables,
    soft_cap,
};
use crate::testing::{Builder, OperandLayout, Problem, Recipe, Subject, Tally, Weights};
use crate::{CompileOptions, DType, Layout, Shape, Tensor, Value};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;
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
        recipe.problem(OperandLayout::Contiguous, Weights::Parameters)
    }

    fn run(&self, subject: &dyn Subject, rows: Range<usize>, threads: usize) -> Outputs {
        let problem = self.problem(rows);
        let session = subject.session(problem.parameters.clone(), 1);
        let mut worker = session.fork(threads).map_err(|error| error.to_string())?;
        problem.run(&mut worker, &CompileOptions::default())
    }

    /// Whether the backend has a kernel for the batch's attention. Its decomposition sums over the
    /// rows of all sequences, in an order that their number decides.
    fn attends_in_a_kernel(&self, subject: &dyn Subject) -> Result<bool, String> {
        let problem = self.problem(0..self.rows);
        let mut session = subject.session(problem.parameters.clone(), 1);
        let program = session.compile(&problem.graph, &CompileOptions::default());
        let program = program.map_err(|error| error.to_string())?;
        let is_attention = |op: &Op| matches!(op, Op::Fused(Fused::Attention(_)));
        Ok(program.plan().steps.iter().any(|step| is_attention(&step.op)))
    }

    /// Compares some rows alone with the same rows in the batch: bit for bit where the backend
    /// `keeps_bits`, else within rounding's bounds. `part` says where the rows' results lie.
    fn check(
        &self,
        subject: &dyn Subject,
        keeps_bits: bool,
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
            let compared = match keeps_bits {
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
        batch.check(subject, subject.keeps_bits(), |row| row..row + 1)
    })?;
    let attention = |name, sources: BoxedStrategy<AttentionCase>| {
        let batches = attention_batches(subject.dtypes(), sources);
        check(name).run(60, &batches, |(batch, offsets): &(Batch, Vec<usize>)| {
            let keeps_bits = subject.keeps_bits() && batch.attends_in_a_kernel(subject)?;
            batch.check(subject, keeps_bits, |s| offsets[s]..offsets[s + 1])
        })
    };
    let [ranges, tables, two_sets] = attention_cases();
    let ranges = attention("Attention", ranges)?;
    let tables = attention("Attention, tables", tables)?;
    let two_sets = attention("Attention, two sets", two_sets)?;
    let lists =
        check("TopOfShortlist").run(60, &list_batches(subject.dtypes()), |batch: &Batch| {
            batch.check(subject, subject.keeps_bits(), |row| row..row + 1)
        })?;
    Ok(rows.and(ranges).and(tables).and(two_sets).and(lists))
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

/// Sequences that attend to one or two sets of keys.
#[derive(Debug, Clone)]
struct AttentionCase {
    /// The queries of each sequence.
    queries: Vec<usize>,
    sources: Vec<KeySource>,
}

/// Keys by ranges, by tables of single queries, and two sets of either kind.
fn attention_cases() -> [BoxedStrategy<AttentionCase>; 3] {
    let ragged = || Ragged::strategy(8, (0..=20usize).boxed(), (0..=30usize).boxed());
    let ranges = ragged().prop_map(|ragged| AttentionCase {
        queries: ragged.queries.clone(),
        sources: vec![KeySource::Ranges(ragged)],
    });
    let tables = proptest::collection::vec(0..=30usize, 1..=70).prop_map(|lengths| AttentionCase {
        queries: vec![1; lengths.len()],
        sources: vec![KeySource::Table(RowLists { lengths, width: 30, rows: 60 })],
    });
    let two_sets = (ragged(), any::<[u64; 2]>().no_shrink()).prop_map(|(ragged, seeds)| {
        let queries = ragged.queries.clone();
        let ranges = KeySource::Ranges(ragged);
        AttentionCase { queries, sources: seeds.map(|seed| ranges.another(30, seed)).into() }
    });
    [ranges.boxed(), tables.boxed(), two_sets.boxed()]
}

/// Batches of sequences. With each come the first query of each sequence and the end of the last.
fn attention_batches(
    dtypes: &[DType],
    cases: BoxedStrategy<AttentionCase>,
) -> impl Strategy<Value = (Batch, Vec<usize>)> {
    let how = (soft_cap(), [key_set(), key_set()], 1..=3usize);
    (select(dtypes.to_vec()), any::<u64>().no_shrink(), cases, heads(), how).prop_map(
        |(dtype, seed, case, heads, (soft_cap, sets, threads))| {
            let scale = 1.0 / (heads.size as f64).sqrt();
            let AttentionCase { queries, sources } = case;
            let sets = sets.into_iter().zip(&sources);
            let mut sets = sets.map(|(set, from)| KeySet { lookup: from.lookup(), ..set });
            let keys = sets.next().expect("there is a set of keys");
            let op = Attention { scale, soft_cap, dropout: None, keys, more_keys: sets.next() };
            let description = format!("{op:?} of {heads:?}, {queries:?}, {sources:?}");
            let ends = queries.iter().scan(0, |end, queries| {
                *end += queries;
                Some(*end)
            });
            let offsets: Vec<usize> = [0].into_iter().chain(ends).collect();
            let build: Build = Arc::new({
                let offsets = offsets.clone();
                move |b, some| {
                    let mine = offsets[some.start]..offsets[some.end];
                    let all = offsets[offsets.len() - 1];
                    let query = some_rows(b, all, &[heads.query, heads.size], &mine, 1.0);
                    let sets = [Some(op.keys), op.more_keys].into_iter().flatten().zip(&sources);
                    let mut sets =
                        sets.map(|(set, from)| some_keys(b, from, &set, heads, &some, &mine));
                    let keys = sets.next().expect("there is a set of keys");
                    let more_keys = sets.next();
                    let operands = AttentionOperands { query, keys, more_keys, random_key: None };
                    let y = b.graph.attention(op, operands);
                    b.graph.output(y);
                }
            });
            (Batch { description, rows: queries.len(), threads, dtype, seed, build }, offsets)
        },
    )
}

/// The keys of some sequences, which have the queries `mine`.
fn some_keys(
    b: &mut Builder,
    source: &KeySource,
    set: &KeySet,
    heads: Heads,
    some: &Range<usize>,
    mine: &Range<usize>,
) -> KeyOperands<Value> {
    // One sequence comes with its own keys alone, several come with all keys.
    let (first, length) = match source {
        KeySource::Ranges(ragged) if some.len() == 1 => ragged.keys[some.start],
        _ => (0, source.rows()),
    };
    let rows = first..first + length;
    let [key, value] =
        [(); 2].map(|()| some_rows(b, source.rows(), &[heads.key, heads.size], &rows, 1.0));
    let rows = match source {
        KeySource::Ranges(ragged) => {
            let offsets = ragged.offsets();
            let starts = offsets[some.start..=some.end].iter().map(|end| end - offsets[some.start]);
            let starts = starts.collect();
            let keys = ragged.keys[some.clone()].iter();
            let ranges = keys.flat_map(|(start, length)| [start - first, *length]);
            let ranges = ranges.map(|number| number as i32).collect();
            let query_offsets = b.integers([some.len() + 1], starts);
            KeyRows::Ranges { query_offsets, key_ranges: b.integers([some.len(), 2], ranges) }
        }
        KeySource::Table(RowLists { lengths, width, rows: all }) => {
            let table = row_tables(&mut b.data, lengths, *width, *all);
            let part = table[mine.start * width..mine.end * width].to_vec();
            let row_table = b.integers([mine.len(), *width], part);
            let lengths = lengths[mine.clone()].iter().map(|&length| length as i32).collect();
            KeyRows::Table { row_table, lengths: b.integers([mine.len()], lengths) }
        }
    };
    let bias = set.bias.map(|bias| bias_table(b, bias, heads.query));
    KeyOperands { key, value, rows, bias }
}

/// Rows with a list each. Neither the lists of other rows nor the order of the columns may matter.
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
                // Beyond the end of a list the ids are those that the columns happen to have.
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
