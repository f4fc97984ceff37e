//! Attention over ragged batches, and over rows of a pool named by a table.
//!
//! Both come down to `Attend::one`: one query of one head over a list of keys. Its order of operations
//! depends on the head's size and the number of keys alone, so a query's result is the same in any batch,
//! and the same whether its keys are found by range or by table.

use std::ops::Range;

use super::distance_bias::DistanceBias;
use super::dropout::Dropout;
use super::heads::Heads;
use super::math::exp;
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads};

/// Where the keys of a query lie.
#[derive(Clone, Copy, Debug)]
pub enum KeyRows<'a> {
    /// A ragged batch. The queries of sequence s are the rows `query_offsets[s]..query_offsets[s + 1]`, and its
    /// keys the rows `start..start + length` for `(start, length)` in `key_ranges[2·s..2·s + 2]`.
    Ragged {
        /// `[n + 1]`, ascending from 0 to the number of queries.
        query_offsets: &'a [i32],
        /// `[n, 2]`
        key_ranges: &'a [i32],
        /// Whether query i of q sees only the keys j ≤ i + (k − q) of k.
        causal: bool,
    },
    /// Query i sees the rows `row_table[i·width..][..lengths[i]]`.
    Table {
        /// `[n, width]`
        row_table: &'a [i32],
        /// Entries of the table for each query.
        width: usize,
        /// `[n]`
        lengths: &'a [i32],
    },
}

/// `softmax(scale·Q·Kᵀ)·V` for every query and head, into `out [queries, heads, size]`. A query that sees no
/// key gives 0. Panics where a row that is named does not exist.
pub fn attention(
    isa: Isa,
    threads: &Threads,
    heads: [Heads<'_>; 3],
    rows: KeyRows<'_>,
    scale: f32,
    out: &mut [f32],
) {
    attention_with(isa, threads, heads, rows, scale, Options::default(), out);
}

/// What not every call of attention has.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// What is added to the scores.
    pub bias: Option<&'a DistanceBias>,
    /// Dropout of the weights: that of head h, query i and row j has position `(h·queries + i)·rows + j`. It is for
    /// [`KeyRows::Ragged`] alone.
    pub dropout: Option<Dropout>,
    /// To be filled with log Σ exp of each query's scores, for the gradient: `[queries, heads]`, 0 for a query
    /// that sees no key.
    pub log_sum_exp: Option<&'a mut [f32]>,
}

/// [`attention`] with more.
pub fn attention_with(
    isa: Isa,
    threads: &Threads,
    [query, key, value]: [Heads<'_>; 3],
    rows: KeyRows<'_>,
    scale: f32,
    Options { bias, dropout, log_sum_exp }: Options<'_>,
    out: &mut [f32],
) {
    assert!(dropout.is_none() || matches!(rows, KeyRows::Ragged { .. }), "dropout of ranges");
    let (heads, size) = (query.heads(), query.size());
    assert_eq!(out.len(), query.rows() * heads * size);
    assert!([key.heads(), value.heads()] == [heads; 2] && [key.size(), value.size()] == [size; 2]);
    assert_eq!(key.rows(), value.rows());
    let keys = rows.average_keys(query.rows());
    assert!(log_sum_exp.as_ref().is_none_or(|sums| sums.len() == query.rows() * heads));
    let log_sum_exp = log_sum_exp.map(SharedMut::new);
    threads.rows(out, heads * size, 4 * keys * heads * size, |range, out| {
        // SAFETY: ranges of different tasks do not overlap, and each task runs once.
        let log_sum_exp = log_sum_exp
            .as_ref()
            .map(|sums| unsafe { sums.slice(range.start * heads..range.end * heads) });
        isa.run(Attend { query, key, value, rows, scale, bias, dropout, range, out, log_sum_exp });
    });
}

impl KeyRows<'_> {
    /// The most keys of a query, and the most of them that come after it.
    pub fn most_keys(&self) -> (usize, usize) {
        let most = |numbers: &mut dyn Iterator<Item = i32>| index(numbers.max().unwrap_or(0));
        match self {
            KeyRows::Ragged { query_offsets, key_ranges, causal } => {
                let queries = most(&mut query_offsets.windows(2).map(|pair| pair[1] - pair[0]));
                let after = if *causal { 0 } else { queries.saturating_sub(1) };
                (most(&mut key_ranges.iter().skip(1).step_by(2).copied()), after)
            }
            KeyRows::Table { lengths, .. } => (most(&mut lengths.iter().copied()), 0),
        }
    }

    /// About how many keys a query sees.
    fn average_keys(&self, queries: usize) -> usize {
        let sum: usize = match self {
            KeyRows::Ragged { query_offsets, key_ranges, .. } => query_offsets
                .windows(2)
                .zip(key_ranges.chunks_exact(2))
                .map(|(queries, range)| index(queries[1] - queries[0]) * index(range[1]))
                .sum(),
            KeyRows::Table { lengths, .. } => lengths.iter().map(|&length| index(length)).sum(),
        };
        sum / queries.max(1)
    }
}

/// An index from outside as a `usize`; what is negative becomes out of every bound.
#[inline(always)]
fn index(i: i32) -> usize {
    usize::try_from(i).unwrap_or(i32::MAX as usize)
}

/// The queries that one task attends with.
struct Attend<'a> {
    query: Heads<'a>,
    key: Heads<'a>,
    value: Heads<'a>,
    rows: KeyRows<'a>,
    scale: f32,
    bias: Option<&'a DistanceBias>,
    dropout: Option<Dropout>,
    range: Range<usize>,
    out: &'a mut [f32],
    log_sum_exp: Option<&'a mut [f32]>,
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        match self.rows {
            KeyRows::Ragged { query_offsets, key_ranges, causal } => {
                self.ragged(s, query_offsets, key_ranges, causal);
            }
            KeyRows::Table { row_table, width, lengths } => {
                let mut scores = vec![0.0; width.next_multiple_of(S::LANES)];
                for i in self.range.clone() {
                    let rows = &row_table[i * width..][..index(lengths[i])];
                    for head in 0..self.query.heads() {
                        let distance = 1 - rows.len() as isize;
                        let row = |j| index(rows[j]);
                        self.one(s, (i, head), (rows.len(), distance), row, &mut scores);
                    }
                }
            }
        }
    }
}

impl Attend<'_> {
    /// Every head of every query in the range, sequence by sequence, so that the keys and values of one
    /// head stay in the first-level cache for all the queries of a sequence.
    #[inline(always)]
    fn ragged<S: Simd>(&mut self, s: S, query_offsets: &[i32], key_ranges: &[i32], causal: bool) {
        let mut scores = Vec::new();
        for (queries, keys) in query_offsets.windows(2).zip(key_ranges.chunks_exact(2)) {
            let (first, last) = (index(queries[0]), index(queries[1]));
            let mine = first.max(self.range.start)..last.min(self.range.end);
            if mine.is_empty() {
                continue;
            }
            let (start, length) = (index(keys[0]), index(keys[1]));
            assert!(start + length <= self.key.rows(), "keys outside the rows");
            if scores.len() < length {
                scores.resize(length.next_multiple_of(S::LANES), 0.0);
            }
            for head in 0..self.query.heads() {
                for i in mine.clone() {
                    // The last query stands at the last key, and sees all; the one before it at the key before.
                    let later = last - 1 - i;
                    let visible = length.saturating_sub(if causal { later } else { 0 });
                    let distance = (later + 1) as isize - length as isize;
                    let keys = (visible, distance);
                    self.one(s, (i, head), keys, |j| start + j, &mut scores);
                }
            }
        }
    }

    /// Query `i` of `head` over the keys `row(0)..row(count)`, of which the first is `distance` positions after it.
    #[inline(always)]
    fn one<S: Simd>(
        &mut self,
        s: S,
        (i, head): (usize, usize),
        (count, distance): (usize, isize),
        row: impl Fn(usize) -> usize,
        scores: &mut [f32],
    ) {
        let (heads, size) = (self.query.heads(), self.query.size());
        let out = &mut self.out[((i - self.range.start) * heads + head) * size..][..size];
        if count == 0 {
            if let Some(sums) = &mut self.log_sum_exp {
                sums[(i - self.range.start) * heads + head] = 0.0;
            }
            return out.fill(0.0);
        }
        // Whole vectors: what lies behind the last key is −∞, and so has no weight.
        let scores = &mut scores[..count.next_multiple_of(S::LANES)];
        let query = self.query.head(i, head);
        for (group, scores) in scores[..count.next_multiple_of(4)].chunks_exact_mut(4).enumerate() {
            let mut keys = [&query[..0]; 4];
            for (j, key) in keys.iter_mut().enumerate() {
                *key = self.key.head(row((group * 4 + j).min(count - 1)), head);
            }
            scores.copy_from_slice(&dot4(s, query, keys));
        }
        let mut scale = self.scale;
        if let Some(bias) = self.bias {
            bias.add(s, (scale, head), distance, &mut scores[..count]);
            scale = 1.0;
        }
        scores[count..].fill(f32::NEG_INFINITY);
        let (sum, max) = exponentials(s, scores, scale);
        let factor = 1.0 / sum;
        if let Some(sums) = &mut self.log_sum_exp {
            sums[(i - self.range.start) * heads + head] = max + sum.ln();
        }
        if let Some(dropout) = self.dropout {
            let position = (head * self.query.rows() + i) * self.key.rows() + row(0);
            dropout.apply(s, position as u64, &mut scores[..count]);
        }
        let weights = &scores[..count];
        let value = |j| self.value.head(row(j), head);
        let mut at = 0;
        while at + 4 * S::LANES <= size {
            weighted_sum::<S, 4>(s, weights, factor, value, &mut out[at..at + 4 * S::LANES], at);
            at += 4 * S::LANES;
        }
        while at < size {
            let end = (at + S::LANES).min(size);
            weighted_sum::<S, 1>(s, weights, factor, value, &mut out[at..end], at);
            at = end;
        }
    }
}

/// The dot products of a query and four keys.
#[inline(always)]
fn dot4<S: Simd>(s: S, query: &[f32], keys: [&[f32]; 4]) -> [f32; 4] {
    let mut sums = [s.splat(0.0); 4];
    let whole = query.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        let q = s.load(&query[at..]);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = s.fma(q, s.load(&key[at..]), *sum);
        }
    }
    if whole < query.len() {
        let q = s.load_partial(&query[whole..]);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = s.fma(q, s.load_partial(&key[whole..]), *sum);
        }
    }
    s.sum4(sums)
}

/// Replaces each score x by `exp(scale·x − max)` with the maximum of all `scale·x`, and returns their sum
/// and the maximum. The scores fill whole vectors.
#[inline(always)]
fn exponentials<S: Simd>(s: S, scores: &mut [f32], scale: f32) -> (f32, f32) {
    let mut max = s.splat(f32::NEG_INFINITY);
    for scores in scores.chunks_exact_mut(S::LANES) {
        let hidden = s.splat(f32::NEG_INFINITY);
        let x = s.load(scores);
        // Hidden scores stay −∞ under any scale.
        let x = s.select_lt(hidden, x, s.mul(x, s.splat(scale)), x);
        s.store(x, scores);
        max = s.max(x, max);
    }
    let max = s.max_lane(max);
    let shift = s.splat(max);
    let mut sum = s.splat(0.0);
    for scores in scores.chunks_exact_mut(S::LANES) {
        let e = exp(s, s.sub(s.load(scores), shift));
        s.store(e, scores);
        sum = s.add(sum, e);
    }
    (s.sum(sum), max)
}

/// `out = factor·Σ_j weights[j]·value(j)[at..]`, for `VECTORS` whole vectors, or a part of one vector.
#[inline(always)]
fn weighted_sum<'v, S: Simd, const VECTORS: usize>(
    s: S,
    weights: &[f32],
    factor: f32,
    value: impl Fn(usize) -> &'v [f32],
    out: &mut [f32],
    at: usize,
) {
    let mut acc = [s.splat(0.0); VECTORS];
    if out.len() == VECTORS * S::LANES {
        for (j, &weight) in weights.iter().enumerate() {
            let (weight, value) = (s.splat(weight), &value(j)[at..at + VECTORS * S::LANES]);
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = s.fma(weight, s.load(&value[v * S::LANES..]), *acc);
            }
        }
    } else {
        for (j, &weight) in weights.iter().enumerate() {
            let value = s.load_partial(&value(j)[at..at + out.len()]);
            acc[0] = s.fma(s.splat(weight), value, acc[0]);
        }
    }
    for (acc, out) in acc.into_iter().zip(out.chunks_mut(S::LANES)) {
        s.store_partial(s.mul(acc, s.splat(factor)), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tfm_core::fused::RelativeBias;

    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    const HEADS: usize = 3;

    /// `[rows, HEADS, size]` inside rows that are five elements longer, as in a joined projection.
    fn strided(data: &[f32], size: usize) -> Heads<'_> {
        let stride = HEADS * size + 5;
        Heads::new(data, [data.len() / stride, HEADS, size], [stride, size])
    }

    /// One query by the definition, in f64.
    fn reference(
        query: &[f32],
        keys: &[Vec<f32>],
        values: &[Vec<f32>],
        bias: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        let dot = |key: &Vec<f32>| query.iter().zip(key).map(|(&q, &k)| q as f64 * k as f64).sum();
        let scores = keys.iter().map(dot).enumerate();
        let scores: Vec<f64> = scores.map(|(j, dot): (_, f64)| dot * 0.3 + bias(j)).collect();
        let max = scores.iter().fold(f64::MIN, |max, &x| max.max(x));
        let weights: Vec<f64> = scores.iter().map(|x| (x - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let weighted = |d: usize| weights.iter().zip(values).map(move |(w, v)| w * v[d] as f64);
        (0..query.len())
            .map(|d| weighted(d).sum::<f64>() / if sum > 0.0 { sum } else { 1.0 })
            .collect()
    }

    #[test]
    fn equals_f64_over_ragged_batches_and_tables_alike() {
        // Sequences without queries, without keys, with more queries than keys, with shared keys.
        let query_offsets = [0, 3, 3, 8, 9, 30];
        let key_ranges = [2, 3, 0, 4, 5, 2, 9, 0, 5, 25];
        for size in [1, 8, 20, 64, 72, 150] {
            let stride = HEADS * size + 5;
            let [q, k, v] = [(1, 30), (2, 31), (3, 31)].map(|(seed, n)| noise(seed, n * stride));
            let heads = [&q, &k, &v].map(|data| strided(data, size));
            let bias = RelativeBias { buckets: 10, max_distance: 15, bidirectional: true };
            let biases = noise(4, 10 * HEADS);
            // A table has each query stand at the last of its keys: biases are compared where that is so.
            for (causal, biased) in [(false, false), (true, false), (true, true)] {
                let (mut want, mut table, mut lengths) = (vec![], vec![], vec![]);
                for (sequence, range) in query_offsets.windows(2).zip(key_ranges.chunks(2)) {
                    for i in sequence[0]..sequence[1] {
                        let hidden = if causal { sequence[1] - 1 - i } else { 0 };
                        let rows = range[0]..range[0] + (range[1] - hidden).max(0);
                        lengths.push(rows.len() as i32);
                        table.extend(rows.clone().chain(std::iter::repeat(30)).take(25));
                        for head in 0..HEADS {
                            let pick = |x: Heads<'_>| -> Vec<Vec<f32>> {
                                rows.clone()
                                    .map(|row| x.head(row as usize, head).to_vec())
                                    .collect()
                            };
                            let (keys, values) = (pick(heads[1]), pick(heads[2]));
                            let query = heads[0].head(i as usize, head);
                            let last = rows.len() as i64 - 1;
                            want.extend(reference(query, &keys, &values, |j| {
                                let bucket = bias.bucket(j as i64 - last);
                                if biased { biases[bucket * HEADS + head] as f64 } else { 0.0 }
                            }));
                        }
                    }
                }
                everywhere(|isa, threads| {
                    let run = |rows| {
                        let mut out = vec![9.0; 30 * HEADS * size];
                        let bias = biased.then(|| DistanceBias::new(bias, &biases, heads, rows));
                        let options = Options { bias: bias.as_ref(), ..Options::default() };
                        attention_with(isa, threads, heads, rows, 0.3, options, &mut out);
                        out
                    };
                    let (query_offsets, key_ranges) = (&query_offsets[..], &key_ranges[..]);
                    let ragged = run(KeyRows::Ragged { query_offsets, key_ranges, causal });
                    assert_near(&ragged, &want, 2e-6);
                    let (row_table, lengths) = (&table[..], &lengths[..]);
                    assert_same_bits(
                        &run(KeyRows::Table { row_table, width: 25, lengths }),
                        &ragged,
                    );
                });
            }
        }
    }

    #[test]
    fn a_sequence_keeps_its_bits_in_any_company_and_with_any_threads() {
        let (size, lengths) = (64, [5, 130, 1, 260, 77]);
        let mut offsets = vec![0];
        lengths.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
        let ranges: Vec<i32> = (0..5).flat_map(|s| [offsets[s], lengths[s]]).collect();
        let rows = offsets[5] as usize;
        let row = HEADS * size + 5;
        let [q, k, v] = [4, 5, 6].map(|seed| noise(seed, rows * row));
        everywhere(|isa, threads| {
            let run = |range: Range<usize>, query_offsets: &[i32], key_ranges: &[i32]| {
                let parts =
                    [&q, &k, &v].map(|x| strided(&x[range.start * row..range.end * row], size));
                let mut out = vec![9.0; range.len() * HEADS * size];
                let rows = KeyRows::Ragged { query_offsets, key_ranges, causal: true };
                attention(isa, threads, parts, rows, 0.125, &mut out);
                out
            };
            let all = run(0..rows, &offsets, &ranges);
            for s in 0..5 {
                let mine = offsets[s] as usize..offsets[s + 1] as usize;
                let alone = run(mine.clone(), &[0, lengths[s]], &[0, lengths[s]]);
                assert_same_bits(&alone, &all[mine.start * HEADS * size..mine.end * HEADS * size]);
            }
        });
    }
}
