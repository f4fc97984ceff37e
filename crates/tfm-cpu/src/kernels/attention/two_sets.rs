//! Attention to two sets of keys at once: one softmax over the keys of both.

use tfm_core::fused::KeyRows;

use super::super::heads::Kept;
use super::super::simd::{Kernel, Simd};
use super::Attend;
use super::by_key::Reading;
use super::keys::{InList, InRange, Keys, Seen, Sight, index};
use super::vectors::softmax;

/// Attention to two sets. Each query goes alone, key by key.
pub(super) struct TwoSets<'a, K> {
    pub(super) attend: Attend<'a>,
    pub(super) sets: [Keys<'a, K>; 2],
}

/// The keys of one query.
#[derive(Clone, Copy)]
enum Found<'a> {
    InRange(InRange<true>),
    InList(InList<'a, true>),
    /// It belongs to no sequence.
    Nothing,
}

impl Sight for Found<'_> {
    #[inline(always)]
    fn seen(&self, i: usize) -> Seen {
        match self {
            Found::InRange(sight) => sight.seen(i),
            Found::InList(sight) => sight.seen(i),
            Found::Nothing => Seen::all(0, 0),
        }
    }

    #[inline(always)]
    fn row(&self, j: usize) -> usize {
        match self {
            Found::InRange(sight) => sight.row(j),
            Found::InList(sight) => sight.row(j),
            Found::Nothing => usize::MAX,
        }
    }

    #[inline(always)]
    fn next(&self, _: usize) -> Option<usize> {
        None
    }
}

impl<K: Kept> Kernel for TwoSets<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.attend.clear();
        let heads = self.attend.query.heads();
        let (mut scores, mut sequences) = (Vec::new(), [0; 2]);
        for i in self.attend.range.clone() {
            let found = [0, 1].map(|n| find(&self.sets[n], i, &mut sequences[n]));
            // A set's scores begin with a whole vector, so that a key has the same lane whatever the
            // other set holds.
            let strides = found.map(|sight| sight.seen(i).end.next_multiple_of(S::LANES));
            let stride = strides[0] + strides[1];
            if heads == 0 || stride == 0 {
                continue;
            }
            scores.clear();
            scores.resize(heads * stride, f32::NEG_INFINITY);
            for (n, begin) in [0, strides[0]].into_iter().enumerate() {
                let (keys, seen) = (&self.sets[n], found[n].seen(i));
                let reading = Reading::new(keys, i..i + 1, found[n]);
                self.attend.score_keys(s, i..i + 1, &reading, (&mut scores[begin..], stride));
                for (head, scores) in scores.chunks_exact_mut(stride).enumerate() {
                    let of_set = &mut scores[begin..begin + strides[n]];
                    // What was computed around the keys that are seen is of no use.
                    of_set[..seen.start].fill(f32::NEG_INFINITY);
                    of_set[seen.end..].fill(f32::NEG_INFINITY);
                    self.attend.finish_scores(s, keys, head, seen, of_set);
                }
            }
            for scores in scores.chunks_exact_mut(stride) {
                softmax(s, scores, stride, [stride], 1.0);
            }
            for (n, begin) in [0, strides[0]].into_iter().enumerate() {
                let reading = Reading::new(&self.sets[n], i..i + 1, found[n]);
                self.attend.add_keys(s, i..i + 1, &reading, (&scores[begin..], stride));
            }
        }
    }
}

/// The keys of query i in a set. `sequence` is one at or before the query's.
#[inline(always)]
fn find<'a, K: Kept>(keys: &Keys<'a, K>, i: usize, sequence: &mut usize) -> Found<'a> {
    match keys.rows {
        KeyRows::Ranges { query_offsets, key_ranges } => {
            for &end in &query_offsets[query_offsets.len().min(*sequence + 1)..] {
                let end = index(end);
                if end > i {
                    return Found::InRange(InRange::new(keys, key_ranges, *sequence, end));
                }
                *sequence += 1;
            }
            Found::Nothing
        }
        KeyRows::Table { row_table, lengths } => {
            Found::InList(InList::new(keys, row_table, lengths, i, false))
        }
    }
}
