//! Attention over ragged batches and over tables of rows.

use super::ragged::Ragged;
use super::training::{key, mask};
use super::{Family, Range, Sameness, basics, extent};
use crate::fused::{
    Attention, AttentionGradient, AttentionGradientOperands, AttentionOperands, DropoutMask,
    KeyLookup, KeyOperands, KeyRows, KeySet, RelativeBias,
};
use crate::reference::tensor_from_f64;
use crate::testing::{Builder, Data, Recipe};
use crate::{DType, Shape, Value};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

pub(super) fn families(range: &Range) -> Vec<Family> {
    let gradient = attention_gradient(range);
    let mut families = vec![Family::new("AttentionGradient", Sameness::Bounds, gradient)];
    families.extend(forward(range, query_dtype()));
    families
}

/// Attention to keys and values of another type than the query's.
pub(super) fn of_any_key_dtype(range: &Range) -> Vec<Family> {
    let mut families = forward(range, other_dtypes());
    for family in &mut families {
        family.name = match family.name {
            "Attention" => "Attention, kept keys",
            "Attention, tables" => "Attention, kept keys, tables",
            _ => "Attention, kept keys, two sets",
        };
    }
    families
}

fn forward(range: &Range, key_dtype: KeyDType) -> Vec<Family> {
    let alone = |source: &BoxedStrategy<KeySource>| source.clone().prop_map(|one| vec![one]);
    let [ranges, tables] = sources(range);
    let either = prop_oneof![ranges.clone(), tables.clone()];
    let two = (either, extent(range, 40), any::<u64>().no_shrink())
        .prop_map(|(first, most, seed)| vec![first.clone(), first.another(most, seed)]);
    let of = |sources| attention(range, sources, key_dtype.clone());
    vec![
        Family::new("Attention", Sameness::Bounds, of(alone(&ranges).boxed())),
        Family::new("Attention, tables", Sameness::Bounds, of(alone(&tables).boxed())),
        Family::new("Attention, two sets", Sameness::Bounds, of(two.boxed())),
    ]
}

/// Where the keys of all queries lie.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// In ranges.
    Ranges(Ragged),
    /// In the rows that a table names.
    Table(RowLists),
}

/// How many keys each query has in its list.
#[derive(Debug, Clone)]
pub struct RowLists {
    /// Of each query.
    pub lengths: Vec<usize>,
    /// Columns of the table.
    pub width: usize,
    /// Rows of keys and values.
    pub rows: usize,
}

/// Sources by ranges and by tables.
fn sources(range: &Range) -> [BoxedStrategy<KeySource>; 2] {
    let ragged = Ragged::strategy(6, extent(range, 20), extent(range, 40));
    let lengths = proptest::collection::vec(extent(range, 40), 0..=12);
    let lists = (lengths, 1..60usize, 0..4usize).prop_map(|(lengths, rows, spare)| {
        let width = lengths.iter().max().map_or(0, |most| most + spare);
        RowLists { lengths, width, rows }
    });
    [ragged.prop_map(KeySource::Ranges).boxed(), lists.prop_map(KeySource::Table).boxed()]
}

impl KeySource {
    /// Which of the two kinds it is.
    pub fn lookup(&self) -> KeyLookup {
        match self {
            KeySource::Ranges(_) => KeyLookup::Ranges,
            KeySource::Table(_) => KeyLookup::Table,
        }
    }

    /// All queries.
    pub fn queries(&self) -> usize {
        match self {
            KeySource::Ranges(ragged) => ragged.query_rows(),
            KeySource::Table(lists) => lists.lengths.len(),
        }
    }

    /// Rows of keys and values.
    pub fn rows(&self) -> usize {
        match self {
            KeySource::Ranges(ragged) => ragged.rows,
            KeySource::Table(lists) => lists.rows,
        }
    }

    /// Another source for the same queries, of up to `most` keys each.
    pub fn another(&self, most: usize, seed: u64) -> KeySource {
        let mut data = Data::new(seed);
        if data.once_in(2) {
            let lengths = (0..self.queries()).map(|_| data.below(most + 1)).collect();
            return KeySource::Table(RowLists { lengths, width: most, rows: 1 + data.below(50) });
        }
        let queries = match self {
            KeySource::Ranges(ragged) => ragged.queries.clone(),
            KeySource::Table(lists) => {
                let first = data.below(lists.lengths.len() + 1);
                vec![first, lists.lengths.len() - first]
            }
        };
        let lengths: Vec<_> = queries.iter().map(|&of| (of, data.below(most + 1))).collect();
        KeySource::Ranges(Ragged::new(&lengths, &mut data))
    }

    /// The operands that say which rows each query sees, and for each row whether some query does.
    fn rows_of(&self, b: &mut Builder, set: &KeySet) -> (KeyRows<Value>, Vec<bool>) {
        let mut seen = vec![false; self.rows()];
        match self {
            KeySource::Ranges(ragged) => {
                for (&queries, &(start, length)) in ragged.queries.iter().zip(&ragged.keys) {
                    for (i, j) in (0..queries).flat_map(|i| (0..length).map(move |j| (i, j))) {
                        let position = (i + length) as i64 - queries as i64;
                        seen[start + j] |= sees(set, j as i64 - position);
                    }
                }
                let sequences = ragged.queries.len();
                let query_offsets = b.integers([sequences + 1], ragged.offsets());
                let key_ranges = b.integers([sequences, 2], ragged.ranges());
                (KeyRows::Ranges { query_offsets, key_ranges }, seen)
            }
            KeySource::Table(RowLists { lengths, width, rows }) => {
                let table = row_tables(&mut b.data, lengths, *width, *rows);
                for (i, &length) in lengths.iter().enumerate() {
                    for (j, &row) in table[i * width..][..length].iter().enumerate() {
                        seen[row as usize] |= sees(set, j as i64 - (length as i64 - 1));
                    }
                }
                let row_table = b.integers([lengths.len(), *width], table);
                let lengths = lengths.iter().map(|&length| length as i32).collect::<Vec<_>>();
                let lengths = b.integers([lengths.len()], lengths);
                (KeyRows::Table { row_table, lengths }, seen)
            }
        }
    }
}

/// Whether a query sees a key of its own at this distance.
fn sees(set: &KeySet, distance: i64) -> bool {
    (!set.causal || distance <= 0)
        && set.window.is_none_or(|window| distance.unsigned_abs() < window as u64)
}

/// `[rows, heads, d_head]` floats of a type, as a joined projection gives them. Rows that are not
/// `used` hold NaN.
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

/// Numbers of heads, and their size.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads, a multiple of the key heads.
    pub query: usize,
    /// Key heads.
    pub key: usize,
    /// d_head.
    pub size: usize,
}

/// Up to four key heads, some of them read by several query heads, with d_head at and around the
/// widths of vectors.
pub fn heads() -> BoxedStrategy<Heads> {
    let size = prop_oneof![1..=80usize, proptest::sample::select(vec![8usize, 16, 32, 64])];
    let group = prop_oneof![2 => Just(1usize), 1 => 2..=5usize];
    (1..=4usize, group, size)
        .prop_map(|(key, group, size)| Heads { query: key * group, key, size })
        .boxed()
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

/// How queries see keys, but for their lookup.
pub fn key_set() -> BoxedStrategy<KeySet> {
    let window = prop_oneof![2 => Just(None), 1 => (1..=24usize).prop_map(Some)];
    (any::<bool>(), window, relative_bias())
        .prop_map(|(causal, window, bias)| KeySet { causal, window, bias, ..KeySet::default() })
        .boxed()
}

/// Caps of scores, or none.
pub fn soft_cap() -> BoxedStrategy<Option<f64>> {
    prop_oneof![2 => Just(None), 1 => (0.5..20.0f64).prop_map(Some)].boxed()
}

/// The table of biases for so many heads.
pub fn bias_table(b: &mut Builder, bias: RelativeBias, heads: usize) -> Value {
    let table = b.data.tensor(DType::F32, &Shape::from([bias.buckets, heads]), 2.0);
    b.weight_of(table)
}

/// The type of keys and values: the query's where it is `None`.
type KeyDType = BoxedStrategy<Option<DType>>;

fn query_dtype() -> KeyDType {
    Just(None).boxed()
}

fn other_dtypes() -> KeyDType {
    let dtypes = vec![DType::BF16, DType::BF16, DType::F16, DType::F32];
    proptest::sample::select(dtypes).prop_map(Some).boxed()
}

fn attention(
    range: &Range,
    sources: BoxedStrategy<Vec<KeySource>>,
    key_dtype: KeyDType,
) -> BoxedStrategy<Recipe> {
    let attributes = (proptest::option::of(mask()), soft_cap(), [key_set(), key_set()]);
    (basics(range), sources, (heads(), key_dtype), any::<bool>(), attributes)
        .prop_map(
            |((dtype, seed), sources, (heads, key_dtype), large, (dropout, soft_cap, sets))| {
                let sets = looked_up(sets, &sources);
                let op = op(scale(heads.size, large), soft_cap, dropout, &sets);
                let key_dtype = key_dtype.unwrap_or(dtype);
                let description = format!("{op:?} of {heads:?}, keys in {key_dtype}, {sources:?}");
                Recipe::new(description, dtype, seed, move |b| {
                    let operands = operands(b, &op, &sources, heads, key_dtype);
                    let results = b.graph.fused_all(op, &operands.list());
                    let results = if op.gives_sums() { &results[..] } else { &results[..1] };
                    results.iter().for_each(|result| b.graph.output(*result));
                })
            },
        )
        .boxed()
}

/// The sets with the lookup of their sources.
fn looked_up(sets: [KeySet; 2], sources: &[KeySource]) -> Vec<KeySet> {
    let pairs = sets.into_iter().zip(sources);
    pairs.map(|(set, source)| KeySet { lookup: source.lookup(), ..set }).collect()
}

/// Attention over one or two sets of keys.
fn op(
    scale: f64,
    soft_cap: Option<f64>,
    dropout: Option<DropoutMask>,
    sets: &[KeySet],
) -> Attention {
    Attention { scale, soft_cap, dropout, keys: sets[0], more_keys: sets.get(1).copied() }
}

/// The operands, with rows that no query sees full of NaN.
fn operands(
    b: &mut Builder,
    op: &Attention,
    sources: &[KeySource],
    heads: Heads,
    key_dtype: DType,
) -> AttentionOperands<Value> {
    let query = rows(b, b.dtype, sources[0].queries(), heads.query, heads.size, |_| true);
    let sets = [Some(op.keys), op.more_keys].into_iter().flatten().zip(sources);
    let mut sets = sets.map(|(set, source)| {
        let (key_rows, seen) = source.rows_of(b, &set);
        let [key, value] = [(); 2]
            .map(|()| rows(b, key_dtype, seen.len(), heads.key, heads.size, |row| seen[row]));
        let bias = set.bias.map(|bias| bias_table(b, bias, heads.query));
        KeyOperands { key, value, rows: key_rows, bias }
    });
    let keys = sets.next().expect("there is a set of keys");
    let more_keys = sets.next();
    AttentionOperands { query, keys, more_keys, random_key: op.dropout.map(|_| key(b)) }
}

fn attention_gradient(range: &Range) -> BoxedStrategy<Recipe> {
    let ragged = Ragged::strategy(5, extent(range, 20), extent(range, 40));
    let attributes = (proptest::option::of(mask()), soft_cap(), key_set());
    (basics(range), ragged, heads(), attributes)
        .prop_map(|((dtype, seed), ragged, heads, (dropout, soft_cap, set))| {
            let op = op(scale(heads.size, false), soft_cap, dropout, &[set]);
            let description = format!("gradient of {op:?} of {heads:?}, {ragged:?}");
            let sources = [KeySource::Ranges(ragged)];
            Recipe::new(description, dtype, seed, move |b| {
                let forward = operands(b, &op, &sources, heads, b.dtype);
                let results = b.graph.fused_all(op, &forward.list());
                let (context, log_sum_exp) = (results[0], results[1]);
                let queries = sources[0].queries();
                let d_context = rows(b, b.dtype, queries, heads.query, heads.size, |_| true);
                let operands =
                    AttentionGradientOperands { forward, context, log_sum_exp, d_context };
                let gradients = b.graph.fused_all(AttentionGradient(op), &operands.list());
                gradients.into_iter().for_each(|gradient| b.graph.output(gradient));
            })
        })
        .boxed()
}

/// Row tables for hypotheses of these lengths in a cache of `rows` rows. Hypotheses share prefixes
/// as after beam reorders. Beyond a length stands any row.
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
