//! Attention over ragged batches and over pools.

use super::training::{key, mask};
use super::{Family, Range, Sameness, basics, extent};
use crate::fused::{Attention, AttentionGradient, RelativeBias, RowTableAttention};
use crate::reference::tensor_from_f64;
use crate::testing::{Builder, Data, Recipe};
use crate::{DType, Shape, Value};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

pub(super) fn families(range: &Range) -> Vec<Family> {
    vec![
        Family::new("Attention", Sameness::Bounds, attention(range, own())),
        Family::new("AttentionGradient", Sameness::Bounds, attention_gradient(range)),
        Family::new("RowTableAttention", Sameness::Bounds, row_table_attention(range, own())),
    ]
}

/// Attention to keys and values of another type than the query's.
pub(super) fn of_kept(range: &Range) -> Vec<Family> {
    let (attention, by_table) = (attention(range, other()), row_table_attention(range, other()));
    vec![
        Family::new("Attention, kept keys", Sameness::Bounds, attention),
        Family::new("RowTableAttention, kept keys", Sameness::Bounds, by_table),
    ]
}

/// Which queries and keys belong together in a ragged batch.
#[derive(Debug, Clone)]
pub struct Ragged {
    /// The queries of each sequence.
    pub queries: Vec<usize>,
    /// First row and number of each sequence's keys.
    pub keys: Vec<(usize, usize)>,
    /// Rows of keys and values in all, also those that no sequence has.
    pub rows: usize,
}

impl Ragged {
    /// Up to `sequences` sequences of these lengths. Keys lie in the order of the sequences or not, with
    /// gaps between, and some sequences share theirs.
    pub fn strategy(
        sequences: usize,
        queries: BoxedStrategy<usize>,
        keys: BoxedStrategy<usize>,
    ) -> BoxedStrategy<Ragged> {
        let lengths = (queries, keys);
        (proptest::collection::vec(lengths, 0..=sequences), any::<u64>().no_shrink())
            .prop_map(|(lengths, seed)| {
                let mut data = Data::new(seed);
                let (mut rows, mut keys): (usize, Vec<(usize, usize)>) =
                    (data.below(3), Vec::new());
                for &(_, length) in &lengths {
                    let shared = data.once_in(4).then(|| keys.last().copied()).flatten();
                    keys.push(shared.unwrap_or((rows, length)));
                    if shared.is_none() {
                        rows += length + if data.once_in(3) { data.below(3) } else { 0 };
                    }
                }
                if data.once_in(3) {
                    let order = data.distinct(keys.len(), keys.len());
                    keys = order.into_iter().map(|i| keys[i as usize]).collect();
                }
                Ragged {
                    queries: lengths.iter().map(|&(queries, _)| queries).collect(),
                    keys,
                    rows,
                }
            })
            .boxed()
    }

    /// Where each sequence's queries start, and where the last ends.
    pub fn offsets(&self) -> Vec<i32> {
        let mut end = 0;
        let ends = self.queries.iter().map(|&length| {
            end += length as i32;
            end
        });
        [0].into_iter().chain(ends).collect()
    }

    /// Start and length of each sequence's keys.
    pub fn ranges(&self) -> Vec<i32> {
        self.keys.iter().flat_map(|&(start, length)| [start as i32, length as i32]).collect()
    }

    /// All queries.
    pub fn query_rows(&self) -> usize {
        self.queries.iter().sum()
    }

    /// Whether any sequence has this row of keys.
    pub fn is_used(&self, row: usize) -> bool {
        self.keys.iter().any(|&(start, length)| (start..start + length).contains(&row))
    }
}

/// `rows` rows of floats of a type, those that are not `used` NaN, as `[rows, heads, d_head]` taken from a joined
/// projection.
fn rows(
    b: &mut Builder,
    dtype: DType,
    rows: usize,
    heads: usize,
    d_head: usize,
    used: impl Fn(usize) -> bool,
) -> Value {
    let width = heads * d_head;
    let mut values: Vec<f64> = (0..rows * width).map(|_| b.data.number(1.0)).collect();
    for row in (0..rows).filter(|&row| !used(row)) {
        values[row * width..(row + 1) * width].fill(f64::NAN);
    }
    let joined = tensor_from_f64(values.into_iter(), dtype, &[rows, width].into());
    let joined = b.tensor(joined);
    b.graph.reshape(joined, [rows, heads, d_head])
}

/// A number of heads, and d_head at and around the widths of vectors.
pub fn heads() -> BoxedStrategy<(usize, usize)> {
    let d_head = prop_oneof![1..=80usize, proptest::sample::select(vec![8usize, 16, 32, 64])];
    (1..=4usize, d_head).boxed()
}

/// The factor of scores: the paper's, and one that makes them large.
fn scale(d_head: usize, large: bool) -> f64 {
    if large { 20.0 } else { 1.0 / (d_head as f64).sqrt() }
}

/// Biases or none. Some distances are beyond the last bucket's beginning.
pub fn relative_bias() -> BoxedStrategy<Option<RelativeBias>> {
    let bias = (any::<bool>(), 2..=17usize, 1..=40usize).prop_map(|(bidirectional, all, more)| {
        let buckets = if bidirectional { 2 * all } else { all };
        RelativeBias { buckets, max_distance: all / 2 + more, bidirectional }
    });
    proptest::option::of(bias).boxed()
}

/// The table of biases for so many heads.
pub fn bias_table(b: &mut Builder, bias: RelativeBias, heads: usize) -> Value {
    let table = b.data.tensor(DType::F32, &Shape::from([bias.buckets, heads]), 2.0);
    b.weight_of(table)
}

/// A type of keys and values: the query's where it is none.
type Kept = BoxedStrategy<Option<DType>>;

fn own() -> Kept {
    Just(None).boxed()
}

fn other() -> Kept {
    let dtypes = vec![DType::BF16, DType::BF16, DType::F16, DType::F32];
    proptest::sample::select(dtypes).prop_map(Some).boxed()
}

fn attention(range: &Range, kept: Kept) -> BoxedStrategy<Recipe> {
    (
        basics(range),
        Ragged::strategy(6, extent(range, 20), extent(range, 40)),
        (heads(), kept),
        any::<[bool; 2]>(),
        (proptest::option::of(mask()), relative_bias()),
    )
        .prop_map(|((dtype, seed), ragged, (heads, kept), [causal, large], (dropout, bias))| {
            let op = Attention { scale: scale(heads.1, large), causal, dropout, bias };
            let kept = kept.unwrap_or(dtype);
            let description =
                format!("{op:?} of {}×{}, keys in {kept}, {ragged:?}", heads.0, heads.1);
            Recipe::new(description, dtype, seed, move |b| {
                let (inputs, more) = operands(b, &op, &ragged, heads, kept);
                let inputs: Vec<Value> = inputs.into_iter().chain(more).collect();
                let results = b.graph.fused_all(op, &inputs);
                results.into_iter().for_each(|result| b.graph.output(result));
            })
        })
        .boxed()
}

/// Query, key, value, offsets, ranges; and the key of the dropout's numbers and the biases, if there are any.
fn operands(
    b: &mut Builder,
    op: &Attention,
    ragged: &Ragged,
    (heads, d_head): (usize, usize),
    kept: DType,
) -> ([Value; 5], Vec<Value>) {
    let query = rows(b, b.dtype, ragged.query_rows(), heads, d_head, |_| true);
    let [key_rows, value] =
        [(); 2].map(|()| rows(b, kept, ragged.rows, heads, d_head, |row| ragged.is_used(row)));
    let sequences = ragged.queries.len();
    let offsets = b.integers([sequences + 1], ragged.offsets());
    let ranges = b.integers([sequences, 2], ragged.ranges());
    let mut optional = Vec::from_iter(op.dropout.map(|_| key(b)));
    optional.extend(op.bias.map(|bias| bias_table(b, bias, heads)));
    ([query, key_rows, value, offsets, ranges], optional)
}

fn attention_gradient(range: &Range) -> BoxedStrategy<Recipe> {
    (
        basics(range),
        Ragged::strategy(5, extent(range, 20), extent(range, 40)),
        heads(),
        any::<bool>(),
        (proptest::option::of(mask()), relative_bias()),
    )
        .prop_map(|((dtype, seed), ragged, (heads, d_head), causal, (dropout, bias))| {
            let op = Attention { scale: scale(d_head, false), causal, dropout, bias };
            let description = format!("gradient of {op:?} of {heads}×{d_head}, {ragged:?}");
            Recipe::new(description, dtype, seed, move |b| {
                let (inputs, more) = operands(b, &op, &ragged, (heads, d_head), b.dtype);
                let forward: Vec<Value> = inputs.iter().chain(&more).copied().collect();
                let results = b.graph.fused_all(op, &forward);
                let log_sum_exp = results.get(1).copied().unwrap_or(results[0]);
                let d_context = rows(b, b.dtype, ragged.query_rows(), heads, d_head, |_| true);
                let mut operands = inputs.to_vec();
                operands.extend([results[0], log_sum_exp, d_context]);
                operands.extend(more);
                let gradients = b.graph.fused_all(AttentionGradient(op), &operands);
                gradients.into_iter().for_each(|gradient| b.graph.output(gradient));
            })
        })
        .boxed()
}

/// Row tables for hypotheses of these lengths in a pool of `rows` rows: hypotheses share prefixes as after
/// beam reorders; what is past a length is any row.
pub fn row_tables(data: &mut Data, lengths: &[usize], width: usize, rows: usize) -> Vec<i32> {
    let mut table: Vec<i32> = (0..lengths.len() * width).map(|_| data.below(rows) as i32).collect();
    for i in 1..lengths.len() {
        if data.once_in(2) {
            let shared = data.below(lengths[i].min(lengths[i - 1]) + 1);
            table.copy_within((i - 1) * width..(i - 1) * width + shared, i * width);
        }
    }
    table
}

fn row_table_attention(range: &Range, kept: Kept) -> BoxedStrategy<Recipe> {
    let lengths = proptest::collection::vec(extent(range, 40), 0..=12);
    let scores = (any::<bool>(), relative_bias());
    (basics(range), lengths, heads(), (1..60usize, 0..4usize, kept), scores)
        .prop_map(
            |((dtype, seed), lengths, (heads, d_head), (pool, spare, kept), (large, bias))| {
                let kept = kept.unwrap_or(dtype);
                let width = lengths.iter().max().map_or(0, |most| most + spare);
                let op = RowTableAttention { scale: scale(d_head, large), bias };
                let description = format!(
                    "{op:?} of {heads}×{d_head}, {lengths:?} in {pool} of {kept}, width {width}"
                );
                Recipe::new(description, dtype, seed, move |b| {
                    let n = lengths.len();
                    let table = row_tables(&mut b.data, &lengths, width, pool);
                    let used = |row: usize| {
                        (0..n).any(|i| {
                            table[i * width..i * width + lengths[i]].contains(&(row as i32))
                        })
                    };
                    let query = rows(b, dtype, n, heads, d_head, |_| true);
                    let [key, value] = [(); 2].map(|()| rows(b, kept, pool, heads, d_head, used));
                    let table = b.integers([n, width], table.clone());
                    let lengths =
                        b.integers([n], lengths.iter().map(|&length| length as i32).collect());
                    let mut operands = vec![query, key, value, table, lengths];
                    operands.extend(op.bias.map(|bias| bias_table(b, bias, heads)));
                    let y = b.graph.fused(op, &operands);
                    b.graph.output(y);
                })
            },
        )
        .boxed()
}
