//! Many queries that share their keys, head by head.

use std::ops::Range;

use super::super::heads::{HeadElement, Heads};
use super::super::simd::Simd;
use super::vectors::{SCORED, Values};
use super::{OneSet, TOGETHER, VisibleKeys, WIDE};

impl<K: HeadElement> OneSet<'_, K> {
    /// Queries over the keys of one range.
    #[inline(always)]
    pub(super) fn head_by_head<S: Simd>(
        &mut self,
        s: S,
        queries: Range<usize>,
        visible: impl VisibleKeys,
        scores: &mut Vec<f32>,
    ) {
        let most = queries.clone().map(|i| visible.span(i).end).max().unwrap_or(0);
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
                    self.one_head::<S, TOGETHER>(s, of, visible, (scores, stride));
                    i += TOGETHER;
                }
                for i in i..queries.end {
                    self.one_head::<S, 1>(s, (i, head, kv_head), visible, (scores, stride));
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
        visible: impl VisibleKeys,
        (scores, stride): (&mut [f32], usize),
    ) {
        let (mut least, mut most) = (visible.span(first).start, 0);
        for r in 0..N {
            least = least.min(visible.span(first + r).start);
            most = most.max(visible.span(first + r).end);
        }
        for key in (least / SCORED * SCORED..most).step_by(SCORED) {
            let mut of_keys = [&[][..]; SCORED];
            for (j, of_key) in of_keys.iter_mut().enumerate() {
                // Scores beyond the last key are not used.
                *of_key = self.keys.key.head(visible.row((key + j).min(most - 1)), kv_head);
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
        self.weigh(s, of, visible, (scores, stride));
        let (values, attend) = (self.keys.value, &mut self.attend);
        let values = HeadValues { values, visible, kv_head };
        // The keys that all queries see are added together; those before and after that only some
        // see, query by query. Each query still adds its keys in their order.
        let mut all = visible.span(first).range();
        for r in 1..N {
            let span = visible.span(first + r);
            all = all.start.max(span.start)..all.end.min(span.end);
        }
        let all = if N == TOGETHER && !all.is_empty() { all } else { 0..0 };
        for r in 0..N {
            let before = visible.span(first + r).start..all.start;
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
            let span = visible.span(first + r);
            let after = span.start.max(all.end)..span.end;
            if !after.is_empty() {
                attend.add::<S, K, 1>(s, (first + r, head), scores, after, values);
            }
        }
    }
}

/// The values of one head.
#[derive(Clone, Copy)]
struct HeadValues<'v, K, P> {
    values: Heads<'v, K>,
    visible: P,
    kv_head: usize,
}

impl<'v, K: HeadElement, P: VisibleKeys> Values<'v, K> for HeadValues<'v, K, P> {
    #[inline(always)]
    fn of(&self, j: usize) -> &'v [K] {
        self.values.head(self.visible.row(j), self.kv_head)
    }
}
