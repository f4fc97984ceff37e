//! Attention over ragged batches, and over cached rows that a table lists.
//!
//! Each query of each head goes over a list of keys. The order of operations depends on two things
//! alone: the head's size, and which keys the query sees. So a query's result is the same in any
//! batch, whether it finds its keys by a range or by a table.

use std::ops::Range;

use tfm_core::fused::KeyRows;

use super::dropout::Dropout;
use super::heads::{HeadElement, Heads};
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads};
pub(super) use keys::KeySpan;
use keys::{KeyList, KeyRange, VisibleKeys, index};
pub use keys::{Keys, most_keys};
use vectors::{SCORED, Values, ValuesFrom, add_values, dots};

mod by_head;
mod by_key;
mod keys;
mod prefetch;
mod two_sets;
mod vectors;
mod weigh;

/// What is computed beside the products of queries, keys and values.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// The factor of the scores.
    pub scale: f32,
    /// Scores x become `cap·tanh(x/cap)` before biases are added.
    pub soft_cap: Option<f32>,
    /// Dropout of the weights: that of head h, query i and row j has position
    /// `(h·queries + i)·rows + j`. Only one set of
    /// keys by ranges may have it.
    pub dropout: Option<Dropout>,
    /// To be filled with log Σ exp of each query's scores, for the gradient: `[queries, heads]`, 0
    /// for a query that sees no key.
    pub log_sum_exp: Option<&'a mut [f32]>,
}

/// `softmax(scale·Q·Kᵀ)·V` for every query and head, into `out [queries, heads, size]`; where there
/// are two sets of keys, over the keys of both. Head h reads key head `h / (heads / kv_heads)`. A
/// query that sees no key gives 0. Panics where a row that is named does not exist.
pub fn attention<K: HeadElement>(
    isa: Isa,
    threads: &Threads,
    query: Heads<'_>,
    (keys, more_keys): (Keys<'_, K>, Option<Keys<'_, K>>),
    Options { scale, soft_cap, dropout, log_sum_exp }: Options<'_>,
    out: &mut [f32],
) {
    let by_ranges = matches!(keys.rows, KeyRows::Ranges { .. }) && more_keys.is_none();
    assert!(dropout.is_none() || by_ranges, "dropout is for one set of keys by ranges");
    let (heads, size) = (query.heads(), query.size());
    assert_eq!(out.len(), query.rows() * heads * size);
    let mut average = 0;
    for Keys { key, value, .. } in [Some(keys), more_keys].iter().flatten() {
        assert!([key.size(), value.size()] == [size; 2] && key.heads() == value.heads());
        assert!(heads.is_multiple_of(key.heads().max(1)) && heads >= key.heads());
        assert_eq!(key.rows(), value.rows());
    }
    for keys in [Some(keys), more_keys].iter().flatten() {
        average += keys.average(query.rows());
    }
    assert!(log_sum_exp.as_ref().is_none_or(|sums| sums.len() == query.rows() * heads));
    let log_sum_exp = log_sum_exp.map(SharedMut::new);
    threads.rows(out, heads * size, 4 * average * heads * size, |range, out| {
        // SAFETY: ranges of different tasks do not overlap, and each task runs once.
        let log_sum_exp = log_sum_exp
            .as_ref()
            .map(|sums| unsafe { sums.slice(range.start * heads..range.end * heads) });
        let attend = Attend { query, scale, soft_cap, dropout, range, out, log_sum_exp };
        match more_keys {
            None => isa.run(OneSet { attend, keys }),
            Some(more) => isa.run(two_sets::TwoSets { attend, sets: [keys, more] }),
        }
    });
}

/// The queries that one task attends with.
struct Attend<'a> {
    query: Heads<'a>,
    scale: f32,
    soft_cap: Option<f32>,
    dropout: Option<Dropout>,
    range: Range<usize>,
    out: &'a mut [f32],
    log_sum_exp: Option<&'a mut [f32]>,
}

/// Attention to one set of keys.
struct OneSet<'a, K> {
    attend: Attend<'a>,
    keys: Keys<'a, K>,
}

impl<K: HeadElement> Kernel for OneSet<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.attend.clear();
        match (self.keys.rows, self.keys.window) {
            (KeyRows::Ranges { query_offsets, key_ranges }, None) => {
                self.attend_ranges::<S, false>(s, query_offsets, key_ranges);
            }
            (KeyRows::Ranges { query_offsets, key_ranges }, Some(_)) => {
                self.attend_ranges::<S, true>(s, query_offsets, key_ranges);
            }
            (KeyRows::Table { row_table, lengths }, None) => {
                self.attend_lists::<S, false>(s, row_table, lengths);
            }
            (KeyRows::Table { row_table, lengths }, Some(_)) => {
                self.attend_lists::<S, true>(s, row_table, lengths);
            }
        }
    }
}

/// Up to so many queries that share their keys go key by key: all heads of a row lie together and
/// are read together. More queries go head by head, so that the keys and values of one head stay in
/// the first-level cache for all of them.
const FEW_QUERIES: usize = 8;

/// How many queries or heads go through one softmax together.
const TOGETHER: usize = 4;
/// With so many lanes the registers hold the sums of [`TOGETHER`] queries; with fewer, those of
/// two.
const WIDE: usize = 16;

impl<K: HeadElement> OneSet<'_, K> {
    /// Every head of every query in the range, sequence by sequence.
    #[inline(always)]
    fn attend_ranges<S: Simd, const WINDOW: bool>(
        &mut self,
        s: S,
        query_offsets: &[i32],
        key_ranges: &[i32],
    ) {
        let mut scores = Vec::new();
        for (sequence, queries) in query_offsets.windows(2).enumerate() {
            let (first, last) = (index(queries[0]), index(queries[1]));
            let mine = first.max(self.attend.range.start)..last.min(self.attend.range.end);
            if mine.is_empty() {
                continue;
            }
            let visible = KeyRange::<WINDOW>::new(&self.keys, key_ranges, sequence, last);
            if mine.len() <= FEW_QUERIES {
                self.key_by_key(s, mine, visible, &mut scores);
            } else {
                self.head_by_head(s, mine, visible, &mut scores);
            }
        }
    }

    /// Every head of every query in the range, each with its list of rows.
    #[inline(always)]
    fn attend_lists<S: Simd, const WINDOW: bool>(
        &mut self,
        s: S,
        row_table: &[i32],
        lengths: &[i32],
    ) {
        let mut scores = Vec::new();
        for i in self.attend.range.clone() {
            let next = i + 1 < self.attend.range.end;
            let visible = KeyList::<WINDOW>::new(&self.keys, row_table, lengths, i, next);
            self.key_by_key(s, i..i + 1, visible, &mut scores);
        }
    }
}

impl Attend<'_> {
    /// Sets all results to those of a query that sees no key.
    #[inline(always)]
    fn clear(&mut self) {
        self.out.fill(0.0);
        if let Some(sums) = &mut self.log_sum_exp {
            sums.fill(0.0);
        }
    }

    /// The dot products of one head of `N` queries from `first` on with four keys, into `scores`,
    /// `stride` apart.
    #[inline(always)]
    fn score<S: Simd, K: HeadElement, const N: usize>(
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

    /// Adds the values of some keys to the results of one head of `N` queries from `first` on, by
    /// weights `stride` apart.
    #[inline(always)]
    fn add<'v, S: Simd, K: HeadElement, const N: usize>(
        &mut self,
        s: S,
        (first, head): (usize, usize),
        (weights, stride): (&[f32], usize),
        keys: Range<usize>,
        values: impl Values<'v, K>,
    ) {
        let (heads, size) = (self.query.heads(), self.query.size());
        let (mut of, mut offsets) = ([&[][..]; N], [0; N]);
        for r in 0..N {
            of[r] = &weights[r * stride..][keys.clone()];
            offsets[r] = ((first + r - self.range.start) * heads + head) * size;
        }
        let values = ValuesFrom { first: keys.start, values };
        add_values(s, of, values, (self.out, offsets), size);
    }
}

#[cfg(test)]
mod tests;
