//! Many queries that share their keys, head by head.

use std::ops::Range;

use super::super::heads::{Heads, Kept};
use super::super::simd::Simd;
use super::vectors::{SCORED, Values};
use super::{OneSet, Sight, TOGETHER, WIDE};

impl<K: Kept> OneSet<'_, K> {
    /// Queries over the keys of one range.
    #[inline(always)]
    pub(super) fn head_by_head<S: Simd>(
        &mut self,
        s: S,
        queries: Range<usize>,
        sight: impl Sight,
        scores: &mut Vec<f32>,
    ) {
        let most = queries.clone().map(|i| sight.seen(i).end).max().unwrap_or(0);
        if most == 0 {
            return;
        }
        let stride = most.next_multiple_of(S::LANES);
        scores.resize((TOGETHER * stride).max(scores.len()), 0.0);
        let group = self.attend.query.heads() / self.keys.key.heads().max(1);
        for kv_head in 0..self.keys.key.heads() {
            for head in kv_head * group..(kv_head + 1) * group {
                let mut i = queries.start;
                while i + TOGETHER <= queries.end {
                    let of = (i, head, kv_head);
                    self.one_head::<S, TOGETHER>(s, of, sight, (scores, stride));
                    i += TOGETHER;
                }
                for i in i..queries.end {
                    self.one_head::<S, 1>(s, (i, head, kv_head), sight, (scores, stride));
                }
            }
        }
    }

    /// One head of `N` queries from `first` on.
    #[inline(always)]
    fn one_head<S: Simd, const N: usize>(
        &mut self,
        s: S,
        (first, head, kv_head): (usize, usize, usize),
        sight: impl Sight,
        (scores, stride): (&mut [f32], usize),
    ) {
        let (mut least, mut most) = (sight.seen(first).start, 0);
        for r in 0..N {
            least = least.min(sight.seen(first + r).start);
            most = most.max(sight.seen(first + r).end);
        }
        for key in (least / SCORED * SCORED..most).step_by(SCORED) {
            let mut of_keys = [&[][..]; SCORED];
            for (j, of_key) in of_keys.iter_mut().enumerate() {
                // What is computed beyond the last is of no use.
                *of_key = self.keys.key.head(sight.row((key + j).min(most - 1)), kv_head);
            }
            let attend = &self.attend;
            if N == TOGETHER && S::LANES >= WIDE {
                let scores = &mut scores[key..];
                attend.score::<S, K, TOGETHER>(s, (first, head), of_keys, scores, stride);
            } else if N == TOGETHER {
                for r in [0, 2] {
                    let scores = &mut scores[r * stride + key..];
                    attend.score::<S, K, 2>(s, (first + r, head), of_keys, scores, stride);
                }
            } else {
                for r in 0..N {
                    let scores = &mut scores[r * stride + key..];
                    attend.score::<S, K, 1>(s, (first + r, head), of_keys, scores, stride);
                }
            }
        }
        let mut of = [(first, head); N];
        for (r, (query, _)) in of.iter_mut().enumerate() {
            *query += r;
        }
        self.weigh(s, of, sight, (scores, stride));
        let (values, attend) = (self.keys.value, &mut self.attend);
        let values = OfHead { values, sight, kv_head };
        // What some see, what all see together, then again what some see: each in its order.
        let mut all = sight.seen(first).range();
        for r in 1..N {
            let seen = sight.seen(first + r);
            all = all.start.max(seen.start)..all.end.min(seen.end);
        }
        let all = if N == TOGETHER && !all.is_empty() { all } else { 0..0 };
        for r in 0..N {
            let before = sight.seen(first + r).start..all.start;
            if !before.is_empty() {
                let scores = (&scores[r * stride..], stride);
                attend.add::<S, K, 1>(s, (first + r, head), scores, before, values);
            }
        }
        if N == TOGETHER && S::LANES >= WIDE {
            attend.add::<S, K, TOGETHER>(s, (first, head), (scores, stride), all.clone(), values);
        } else if N == TOGETHER {
            for r in [0, 2] {
                let scores = (&scores[r * stride..], stride);
                attend.add::<S, K, 2>(s, (first + r, head), scores, all.clone(), values);
            }
        }
        for r in 0..N {
            let scores = (&scores[r * stride..], stride);
            let seen = sight.seen(first + r);
            let after = seen.start.max(all.end)..seen.end;
            if !after.is_empty() {
                attend.add::<S, K, 1>(s, (first + r, head), scores, after, values);
            }
        }
    }
}

/// The values of one head.
#[derive(Clone, Copy)]
struct OfHead<'v, K, P> {
    values: Heads<'v, K>,
    sight: P,
    kv_head: usize,
}

impl<'v, K: Kept, P: Sight> Values<'v, K> for OfHead<'v, K, P> {
    #[inline(always)]
    fn of(&self, j: usize) -> &'v [K] {
        self.values.head(self.sight.row(j), self.kv_head)
    }
}
