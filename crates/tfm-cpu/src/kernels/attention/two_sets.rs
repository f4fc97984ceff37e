//! Attention to two sets of keys at once: one softmax over the keys of both.

use tfm_core::fused::KeyRows;

use super::super::heads::HeadElement;
use super::super::simd::{Kernel, Simd};
use super::Attend;
use super::by_key::ReadOrder;
use super::keys::{KeyList, KeyRange, KeySpan, Keys, VisibleKeys, index};
use super::vectors::softmax;

/// Attention to two sets. Each query goes by itself, key by key.
pub(super) struct TwoSets<'a, K> {
    pub(super) attend: Attend<'a>,
    pub(super) sets: [Keys<'a, K>; 2],
}

/// The keys of one query.
#[derive(Clone, Copy)]
enum QueryKeys<'a> {
    Range(KeyRange<true>),
    List(KeyList<'a, true>),
    /// The query belongs to no sequence.
    None,
}

impl VisibleKeys for QueryKeys<'_> {
    #[inline(always)]
    fn span(&self, i: usize) -> KeySpan {
        match self {
            QueryKeys::Range(visible) => visible.span(i),
            QueryKeys::List(visible) => visible.span(i),
            QueryKeys::None => KeySpan::all(0, 0),
        }
    }

    #[inline(always)]
    fn row(&self, j: usize) -> usize {
        match self {
            QueryKeys::Range(visible) => visible.row(j),
            QueryKeys::List(visible) => visible.row(j),
            QueryKeys::None => usize::MAX,
        }
    }

    #[inline(always)]
    fn next_row(&self, _: usize) -> Option<usize> {
        None
    }
}

impl<K: HeadElement> Kernel for TwoSets<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.attend.clear();
        let heads = self.attend.query.heads();
        let (mut scores, mut sequences) = (Vec::new(), [0; 2]);
        for i in self.attend.range.clone() {
            let visible = [0, 1].map(|n| keys_of(&self.sets[n], i, &mut sequences[n]));
            // A set's scores begin with a whole vector, so that a key has the same lane whatever
            // the other set holds.
            let strides = visible.map(|keys| keys.span(i).end.next_multiple_of(S::LANES));
            let stride = strides[0] + strides[1];
            if heads == 0 || stride == 0 {
                continue;
            }
            scores.clear();
            scores.resize(heads * stride, f32::NEG_INFINITY);
            for (n, begin) in [0, strides[0]].into_iter().enumerate() {
                let (keys, span) = (&self.sets[n], visible[n].span(i));
                let order = ReadOrder::new(keys, i..i + 1, visible[n]);
                self.attend.score_keys(s, i..i + 1, &order, (&mut scores[begin..], stride));
                for (head, scores) in scores.chunks_exact_mut(stride).enumerate() {
                    let of_set = &mut scores[begin..begin + strides[n]];
                    // Scores outside the span are not used.
                    of_set[..span.start].fill(f32::NEG_INFINITY);
                    of_set[span.end..].fill(f32::NEG_INFINITY);
                    self.attend.finish_scores(s, keys, head, span, of_set);
                }
            }
            for scores in scores.chunks_exact_mut(stride) {
                softmax(s, scores, stride, [stride], 1.0);
            }
            for (n, begin) in [0, strides[0]].into_iter().enumerate() {
                let order = ReadOrder::new(&self.sets[n], i..i + 1, visible[n]);
                self.attend.add_keys(s, i..i + 1, &order, (&scores[begin..], stride));
            }
        }
    }
}

/// The keys of query i in a set. `sequence` is at or before the query's own, and becomes that.
#[inline(always)]
fn keys_of<'a, K: HeadElement>(
    keys: &Keys<'a, K>,
    i: usize,
    sequence: &mut usize,
) -> QueryKeys<'a> {
    match keys.rows {
        KeyRows::Ranges { query_offsets, key_ranges } => {
            for &end in &query_offsets[query_offsets.len().min(*sequence + 1)..] {
                let end = index(end);
                if end > i {
                    return QueryKeys::Range(KeyRange::new(keys, key_ranges, *sequence, end));
                }
                *sequence += 1;
            }
            QueryKeys::None
        }
        KeyRows::Table { row_table, lengths } => {
            QueryKeys::List(KeyList::new(keys, row_table, lengths, i, false))
        }
    }
}
