//! Few queries that share their keys, key by key with all heads of a row.

use std::ops::Range;

use super::super::heads::{HeadElement, Heads};
use super::super::simd::Simd;
use super::keys::Keys;
use super::prefetch::{LINE, Prefetch};
use super::vectors::{SCORED, Values};
use super::{Attend, OneSet, TOGETHER, VisibleKeys, WIDE};

/// Keys whose values are added together.
pub(super) const ADDED: usize = 8;
/// Rows are prefetched so many rows before they are read.
const AHEAD: usize = 8;

impl<K: HeadElement> OneSet<'_, K> {
    /// Computes what [`OneSet::head_by_head`] does, with the same bits. It prefetches the rows that
    /// it reads next; the last ones are the first keys of the queries that follow.
    #[inline(always)]
    pub(super) fn key_by_key<S: Simd>(
        &mut self,
        s: S,
        queries: Range<usize>,
        visible: impl VisibleKeys,
        scores: &mut Vec<f32>,
    ) {
        let heads = self.attend.query.heads();
        let order = ReadOrder::new(&self.keys, queries.clone(), visible);
        if heads == 0 || order.keys.is_empty() {
            return;
        }
        let stride = order.keys.end.next_multiple_of(S::LANES);
        let needed = queries.len() * heads * stride;
        scores.resize(needed.max(scores.len()), 0.0);
        self.attend.score_keys(s, queries.clone(), &order, (scores, stride));
        let offset = |i: usize, head: usize| ((i - queries.start) * heads + head) * stride;
        for i in queries.clone() {
            let mut head = 0;
            while head + TOGETHER <= heads {
                let of = [(i, head), (i, head + 1), (i, head + 2), (i, head + 3)];
                self.weigh(s, of, visible, (&mut scores[offset(i, head)..], stride));
                head += TOGETHER;
            }
            for head in head..heads {
                self.weigh(s, [(i, head)], visible, (&mut scores[offset(i, head)..], stride));
            }
        }
        self.attend.add_keys(s, queries, &order, (scores, stride));
    }
}

/// The order in which the rows of some queries are read: all keys, all values, then the keys of the
/// queries that follow.
pub(super) struct ReadOrder<'a, K, P> {
    key: Heads<'a, K>,
    value: Heads<'a, K>,
    visible: P,
    /// The keys that some of the queries see, from a multiple of [`SCORED`] on.
    pub(super) keys: Range<usize>,
}

impl<'a, K: HeadElement, P: VisibleKeys> ReadOrder<'a, K, P> {
    #[inline(always)]
    pub(super) fn new(keys: &Keys<'a, K>, queries: Range<usize>, visible: P) -> Self {
        let (mut least, mut most) = (usize::MAX, 0);
        for i in queries {
            let span = visible.span(i);
            least = least.min(span.start);
            most = most.max(span.end);
        }
        let Keys { key, value, .. } = *keys;
        ReadOrder { key, value, visible, keys: least / SCORED * SCORED..most }
    }

    /// The row that is read as number n.
    #[inline(always)]
    fn nth(&self, n: usize) -> &'a [K] {
        let (first, count) = (self.keys.start, self.keys.len());
        if n < count {
            return self.key.row(self.visible.row(first + n));
        }
        if n < 2 * count {
            return self.value.row(self.visible.row(first + n - count));
        }
        match self.visible.next_row(n - 2 * count) {
            Some(row) if row < self.key.rows() => self.key.row(row),
            _ => &[],
        }
    }
}

impl Attend<'_> {
    /// The products of all heads of some queries with their keys: those of key j are at j of each
    /// head's scores, which are `stride` apart.
    #[inline(always)]
    pub(super) fn score_keys<S: Simd, K: HeadElement>(
        &self,
        s: S,
        queries: Range<usize>,
        order: &ReadOrder<'_, K, impl VisibleKeys>,
        (scores, stride): (&mut [f32], usize),
    ) {
        let (heads, size) = (self.query.heads(), self.query.size());
        let (key, visible, keys) = (order.key, order.visible, &order.keys);
        let group = heads / key.heads();
        let offset = |i: usize, head: usize| ((i - queries.start) * heads + head) * stride;
        for first in keys.clone().step_by(SCORED) {
            let (mut rows, mut prefetch) = ([&[][..]; SCORED], Prefetch::default());
            for (j, rows) in rows.iter_mut().enumerate() {
                *rows = key.row(visible.row((first + j).min(keys.end - 1)));
                prefetch.rows[j] = order.nth(first - keys.start + AHEAD + j);
            }
            let share = (SCORED * size_of_val(rows[0])).div_ceil(heads * LINE);
            for kv_head in 0..key.heads() {
                let (at, mut of_keys) = (kv_head * key.head_stride(), [&[][..]; SCORED]);
                for (key, row) in of_keys.iter_mut().zip(rows) {
                    *key = &row[at..][..size];
                }
                for head in kv_head * group..(kv_head + 1) * group {
                    prefetch.advance(s, share);
                    let mut i = queries.start;
                    while i < queries.end {
                        let scores = &mut scores[offset(i, head) + first..];
                        let (of, left, stride) = ((i, head), queries.end - i, heads * stride);
                        if left >= TOGETHER && S::LANES >= WIDE {
                            self.score::<S, K, TOGETHER>(s, of, of_keys, scores, stride);
                            i += TOGETHER;
                        } else if left >= 2 {
                            self.score::<S, K, 2>(s, of, of_keys, scores, stride);
                            i += 2;
                        } else {
                            self.score::<S, K, 1>(s, of, of_keys, scores, stride);
                            i += 1;
                        }
                    }
                }
            }
        }
    }

    /// Adds the values of their keys to the results of all heads of some queries, by the weights
    /// that lie where [`Attend::score_keys`] leaves the scores.
    #[inline(always)]
    pub(super) fn add_keys<S: Simd, K: HeadElement>(
        &mut self,
        s: S,
        queries: Range<usize>,
        order: &ReadOrder<'_, K, impl VisibleKeys>,
        (weights, stride): (&[f32], usize),
    ) {
        let (heads, size) = (self.query.heads(), self.query.size());
        let (value, visible, keys) = (order.value, order.visible, &order.keys);
        let group = heads / value.heads();
        let offset = |i: usize, head: usize| ((i - queries.start) * heads + head) * stride;
        for first in keys.clone().step_by(ADDED) {
            let (mut rows, mut prefetch) = ([&[][..]; ADDED], Prefetch::default());
            for (j, rows) in rows.iter_mut().enumerate() {
                *rows = value.row(visible.row((first + j).min(keys.end - 1)));
                prefetch.rows[j] = order.nth(keys.len() + first - keys.start + AHEAD + j);
            }
            let share = (ADDED * size_of_val(rows[0])).div_ceil(heads * LINE);
            // Which of these keys a query sees.
            let part = |i: usize| {
                let span = visible.span(i);
                let end = ADDED.min(span.end.saturating_sub(first));
                span.start.saturating_sub(first).min(end)..end
            };
            for kv_head in 0..value.heads() {
                let (at, mut of_values) = (kv_head * value.head_stride(), [&[][..]; ADDED]);
                for (value, row) in of_values.iter_mut().zip(rows) {
                    *value = &row[at..][..size];
                }
                let of = ListedValues(&of_values);
                for head in kv_head * group..(kv_head + 1) * group {
                    prefetch.advance(s, share);
                    let mut i = queries.start;
                    while i < queries.end {
                        let weights = (&weights[offset(i, head) + first..], heads * stride);
                        let all = part(i);
                        // Queries go together only where they see the same of these keys.
                        let alike =
                            |n: usize| i + n <= queries.end && (1..n).all(|r| part(i + r) == all);
                        if S::LANES >= WIDE && alike(TOGETHER) {
                            self.add::<S, K, TOGETHER>(s, (i, head), weights, all, of);
                            i += TOGETHER;
                        } else if alike(2) {
                            self.add::<S, K, 2>(s, (i, head), weights, all, of);
                            i += 2;
                        } else {
                            self.add::<S, K, 1>(s, (i, head), weights, all, of);
                            i += 1;
                        }
                    }
                }
            }
        }
    }
}

/// The values of one head, in a list.
#[derive(Clone, Copy)]
struct ListedValues<'r, 'v, K>(&'r [&'v [K]; ADDED]);

impl<'v, K: HeadElement> Values<'v, K> for ListedValues<'_, 'v, K> {
    #[inline(always)]
    fn of(&self, j: usize) -> &'v [K] {
        self.0[j]
    }
}
