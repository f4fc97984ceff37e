//! Attention over ragged batches, and over rows of a pool named by a table.
//!
//! Each query of each head goes over a list of keys. The order of operations depends on the head's size and the number of
//! keys alone, so a query's result is the same in any batch, and the same whether its keys are found by range or by table.

use std::ops::Range;

use super::distance_bias::DistanceBias;
use super::dropout::Dropout;
use super::heads::{Heads, Kept};
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads};
use soon::{LINE, Soon};
use vectors::{SCORED, add_values, dots, softmax};

mod soon;
mod vectors;

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
    [query, key, value]: [Heads<'_>; 3],
    rows: KeyRows<'_>,
    scale: f32,
    out: &mut [f32],
) {
    attention_with(isa, threads, (query, [key, value]), rows, scale, Options::default(), out);
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

/// [`attention`] with more, and keys and values as they are kept.
pub fn attention_with<K: Kept>(
    isa: Isa,
    threads: &Threads,
    (query, [key, value]): (Heads<'_>, [Heads<'_, K>; 2]),
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
struct Attend<'a, K> {
    query: Heads<'a>,
    key: Heads<'a, K>,
    value: Heads<'a, K>,
    rows: KeyRows<'a>,
    scale: f32,
    bias: Option<&'a DistanceBias>,
    dropout: Option<Dropout>,
    range: Range<usize>,
    out: &'a mut [f32],
    log_sum_exp: Option<&'a mut [f32]>,
}

impl<K: Kept> Kernel for Attend<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.out.fill(0.0);
        if let Some(sums) = &mut self.log_sum_exp {
            sums.fill(0.0);
        }
        match self.rows {
            KeyRows::Ragged { query_offsets, key_ranges, causal } => {
                self.ragged(s, query_offsets, key_ranges, causal);
            }
            KeyRows::Table { row_table, width, lengths } => {
                let mut scores = Vec::new();
                for i in self.range.clone() {
                    let rows = &row_table[i * width..][..index(lengths[i])];
                    let keys = |_| (rows.len(), 1 - rows.len() as isize);
                    let next = (i + 1 < self.range.end)
                        .then(|| &row_table[(i + 1) * width..][..index(lengths[i + 1])]);
                    let next = |j: usize| next?.get(j).map(|&row| index(row));
                    self.key_by_key(s, i..i + 1, keys, |j| index(rows[j]), next, &mut scores);
                }
            }
        }
    }
}

/// So many queries that share their keys go key by key: what is read lies together, all heads of a row. More go head by
/// head: the keys and values of one head stay in the first-level cache for all of them.
const FEW_QUERIES: usize = 8;

/// Queries or heads whose scores are made weights together.
const TOGETHER: usize = 4;
/// From so many lanes on there are registers for the sums of [`TOGETHER`] queries; below, of two.
const WIDE: usize = 16;
/// Keys whose values are added together.
const ADDED: usize = 8;
/// How many rows beforehand rows are asked for.
const AHEAD: usize = 8;

impl<K: Kept> Attend<'_, K> {
    /// Every head of every query in the range, sequence by sequence.
    #[inline(always)]
    fn ragged<S: Simd>(&mut self, s: S, query_offsets: &[i32], key_ranges: &[i32], causal: bool) {
        let mut scores = Vec::new();
        for (sequence, queries) in query_offsets.windows(2).enumerate() {
            let (first, last) = (index(queries[0]), index(queries[1]));
            let mine = first.max(self.range.start)..last.min(self.range.end);
            if mine.is_empty() {
                continue;
            }
            let [start, length] = [0, 1].map(|i| index(key_ranges[2 * sequence + i]));
            assert!(start + length <= self.key.rows(), "keys outside the rows");
            let keys = |i: usize| {
                // The last query stands at the last key, and sees all; the one before it at the key before.
                let later = last - 1 - i;
                let visible = length.saturating_sub(if causal { later } else { 0 });
                (visible, (later + 1) as isize - length as isize)
            };
            if mine.len() <= FEW_QUERIES {
                let next = key_ranges.get(2 * sequence + 2..2 * sequence + 4);
                let next = |j: usize| {
                    let next = next?;
                    (j < index(next[1])).then(|| index(next[0]) + j)
                };
                self.key_by_key(s, mine, keys, |j| start + j, next, &mut scores);
            } else {
                self.head_by_head(s, mine, keys, |j| start + j, &mut scores);
            }
        }
    }

    /// Queries over the keys `row(0)..row(count)`, of which the first is `distance` positions after the query:
    /// `keys` gives `(count, distance)` of a query.
    #[inline(always)]
    fn head_by_head<S: Simd>(
        &mut self,
        s: S,
        queries: Range<usize>,
        keys: impl Fn(usize) -> (usize, isize),
        row: impl Fn(usize) -> usize,
        scores: &mut Vec<f32>,
    ) {
        let most = queries.clone().map(|i| keys(i).0).max().unwrap_or(0);
        if most == 0 {
            return;
        }
        let stride = most.next_multiple_of(S::LANES);
        scores.resize((TOGETHER * stride).max(scores.len()), 0.0);
        for head in 0..self.query.heads() {
            let mut i = queries.start;
            while i + TOGETHER <= queries.end {
                self.one_head::<S, TOGETHER>(s, (i, head), &keys, &row, (scores, stride));
                i += TOGETHER;
            }
            for i in i..queries.end {
                self.one_head::<S, 1>(s, (i, head), &keys, &row, (scores, stride));
            }
        }
    }

    /// One head of `N` queries from `first` on.
    #[inline(always)]
    fn one_head<S: Simd, const N: usize>(
        &mut self,
        s: S,
        (first, head): (usize, usize),
        keys: impl Fn(usize) -> (usize, isize),
        row: impl Fn(usize) -> usize,
        (scores, stride): (&mut [f32], usize),
    ) {
        let mut most = 0;
        for r in 0..N {
            most = most.max(keys(first + r).0);
        }
        for key in (0..most).step_by(SCORED) {
            let mut of_keys = [&[][..]; SCORED];
            for (j, of_key) in of_keys.iter_mut().enumerate() {
                // What is computed beyond the last is of no use.
                *of_key = self.key.head(row((key + j).min(most - 1)), head);
            }
            if N == TOGETHER && S::LANES >= WIDE {
                self.score::<S, TOGETHER>(s, (first, head), of_keys, &mut scores[key..], stride);
            } else if N == TOGETHER {
                for r in [0, 2] {
                    let scores = &mut scores[r * stride + key..];
                    self.score::<S, 2>(s, (first + r, head), of_keys, scores, stride);
                }
            } else {
                for r in 0..N {
                    let scores = &mut scores[r * stride + key..];
                    self.score::<S, 1>(s, (first + r, head), of_keys, scores, stride);
                }
            }
        }
        let mut of = [(first, head); N];
        for (r, (query, _)) in of.iter_mut().enumerate() {
            *query += r;
        }
        self.weigh(s, of, &keys, &row, (scores, stride));
        let (values, counts) = (self.value, |r: usize| keys(first + r).0);
        let value = |j: usize| values.head(row(j), head);
        // What all see together, then what some see.
        let mut least = counts(0);
        for r in 1..N {
            least = least.min(counts(r));
        }
        let least = if N == TOGETHER { least } else { 0 };
        if N == TOGETHER && S::LANES >= WIDE {
            self.add::<S, TOGETHER>(s, (first, head), (scores, stride), 0..least, value);
        } else if N == TOGETHER {
            for r in [0, 2] {
                let scores = (&scores[r * stride..], stride);
                self.add::<S, 2>(s, (first + r, head), scores, 0..least, value);
            }
        }
        for r in 0..N {
            let scores = (&scores[r * stride..], stride);
            self.add::<S, 1>(s, (first + r, head), scores, least..counts(r), value);
        }
    }

    /// The dot products of one head of `N` queries from `first` on with four keys, into `scores`, `stride` apart.
    #[inline(always)]
    fn score<S: Simd, const N: usize>(
        &self,
        s: S,
        (first, head): (usize, usize),
        keys: [&[K]; SCORED],
        scores: &mut [f32],
        stride: usize,
    ) {
        let mut queries = [&[][..]; N];
        for (r, query) in queries.iter_mut().enumerate() {
            *query = self.query.head(first + r, head);
        }
        let found = dots(s, queries, keys);
        for (r, found) in found.iter().enumerate() {
            scores[r * stride..][..SCORED].copy_from_slice(found);
        }
    }

    /// Adds the values of some keys to the results of one head of `N` queries from `first` on, by weights `stride` apart.
    #[inline(always)]
    fn add<'v, S: Simd, const N: usize>(
        &mut self,
        s: S,
        (first, head): (usize, usize),
        (weights, stride): (&[f32], usize),
        keys: Range<usize>,
        value: impl Fn(usize) -> &'v [K] + Copy,
    ) {
        let (heads, size) = (self.query.heads(), self.query.size());
        let (mut of, mut places) = ([&[][..]; N], [0; N]);
        for r in 0..N {
            of[r] = &weights[r * stride..][keys.clone()];
            places[r] = ((first + r - self.range.start) * heads + head) * size;
        }
        let value = |j: usize| value(keys.start + j);
        add_values(s, of, value, (self.out, places), size);
    }

    /// As [`Attend::head_by_head`], with the same bits. What is read soon is asked for, at the end the first keys of those
    /// who come next: `next` gives their rows.
    #[inline(always)]
    fn key_by_key<S: Simd>(
        &mut self,
        s: S,
        queries: Range<usize>,
        keys: impl Fn(usize) -> (usize, isize),
        row: impl Fn(usize) -> usize,
        next: impl Fn(usize) -> Option<usize>,
        scores: &mut Vec<f32>,
    ) {
        let (heads, size) = (self.query.heads(), self.query.size());
        let most = queries.clone().map(|i| keys(i).0).max().unwrap_or(0);
        if heads == 0 || most == 0 {
            return;
        }
        let stride = most.next_multiple_of(S::LANES);
        let needed = queries.len() * heads * stride;
        scores.resize(needed.max(scores.len()), 0.0);
        let place = |i: usize, head: usize| ((i - queries.start) * heads + head) * stride;
        let (key, value) = (self.key, self.value);
        // All rows in the order in which they are read.
        let read = |j: usize| match j {
            _ if j < most => key.row(row(j)),
            _ if j < 2 * most => value.row(row(j - most)),
            _ => match next(j - 2 * most) {
                Some(row) if row < key.rows() => key.row(row),
                _ => &[],
            },
        };
        for first in (0..most).step_by(SCORED) {
            let (mut rows, mut soon) = ([&[][..]; SCORED], Soon::default());
            for (j, rows) in rows.iter_mut().enumerate() {
                *rows = key.row(row((first + j).min(most - 1)));
                soon.rows[j] = read(first + AHEAD + j);
            }
            let share = (SCORED * size_of_val(rows[0])).div_ceil(heads * LINE);
            for head in 0..heads {
                soon.prefetch(s, share);
                let (at, mut of_keys) = (head * key.head_stride(), [&[][..]; SCORED]);
                for (key, row) in of_keys.iter_mut().zip(rows) {
                    *key = &row[at..][..size];
                }
                let mut i = queries.start;
                while i < queries.end {
                    let scores = &mut scores[place(i, head) + first..];
                    let left = queries.end - i;
                    if left >= TOGETHER && S::LANES >= WIDE {
                        self.score::<S, TOGETHER>(s, (i, head), of_keys, scores, heads * stride);
                        i += TOGETHER;
                    } else if left >= 2 {
                        self.score::<S, 2>(s, (i, head), of_keys, scores, heads * stride);
                        i += 2;
                    } else {
                        self.score::<S, 1>(s, (i, head), of_keys, scores, heads * stride);
                        i += 1;
                    }
                }
            }
        }
        for i in queries.clone() {
            let mut head = 0;
            while head + TOGETHER <= heads {
                let of = [(i, head), (i, head + 1), (i, head + 2), (i, head + 3)];
                self.weigh(s, of, &keys, &row, (&mut scores[place(i, head)..], stride));
                head += TOGETHER;
            }
            for head in head..heads {
                self.weigh(s, [(i, head)], &keys, &row, (&mut scores[place(i, head)..], stride));
            }
        }
        for first in (0..most).step_by(ADDED) {
            let (mut rows, mut soon) = ([&[][..]; ADDED], Soon::default());
            for (j, rows) in rows.iter_mut().enumerate() {
                *rows = value.row(row((first + j).min(most - 1)));
                soon.rows[j] = read(most + first + AHEAD + j);
            }
            let share = (ADDED * size_of_val(rows[0])).div_ceil(heads * LINE);
            // How many of them a query sees.
            let counts = |i: usize| ADDED.min(keys(i).0.saturating_sub(first));
            for head in 0..heads {
                soon.prefetch(s, share);
                let at = head * value.head_stride();
                let of = |j: usize| &rows[j][at..][..size];
                let mut i = queries.start;
                while i < queries.end {
                    let weights = (&scores[place(i, head) + first..], heads * stride);
                    let all = 0..counts(i);
                    // Only queries that see as many go together; where some see less, each goes alone.
                    let alike =
                        |n: usize| i + n <= queries.end && (1..n).all(|r| counts(i + r) == all.end);
                    if S::LANES >= WIDE && alike(TOGETHER) {
                        self.add::<S, TOGETHER>(s, (i, head), weights, all, of);
                        i += TOGETHER;
                    } else if alike(2) {
                        self.add::<S, 2>(s, (i, head), weights, all, of);
                        i += 2;
                    } else {
                        self.add::<S, 1>(s, (i, head), weights, all, of);
                        i += 1;
                    }
                }
            }
        }
    }

    /// Makes weights of the scores of some queries and heads, of `counts` keys from `distances` on, `stride` apart:
    /// `softmax(scale·x + bias)`, with dropout.
    #[inline(always)]
    fn weigh<S: Simd, const N: usize>(
        &mut self,
        s: S,
        of: [(usize, usize); N],
        keys: impl Fn(usize) -> (usize, isize),
        row: impl Fn(usize) -> usize,
        (scores, stride): (&mut [f32], usize),
    ) {
        let mut counts = [0; N];
        let mut scale = self.scale;
        for (r, (i, head)) in of.into_iter().enumerate() {
            let (count, distance) = keys(i);
            counts[r] = count;
            if let Some(bias) = self.bias {
                if count > 0 {
                    let scores = &mut scores[r * stride..][..count];
                    bias.add(s, (self.scale, head), distance, scores);
                }
                scale = 1.0;
            }
        }
        let (sum, max) = softmax(s, scores, stride, counts, scale);
        for (r, (i, head)) in of.into_iter().enumerate().filter(|&(r, _)| counts[r] > 0) {
            if let Some(all) = &mut self.log_sum_exp {
                let place = (i - self.range.start) * self.query.heads() + head;
                all[place] = max[r] + sum[r].ln();
            }
            if let Some(dropout) = self.dropout {
                let position = (head * self.query.rows() + i) * self.key.rows() + row(0);
                dropout.apply(s, position as u64, &mut scores[r * stride..][..counts[r]]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
