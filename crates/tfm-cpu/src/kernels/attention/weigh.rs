//! From products of queries and keys to weights.

use super::super::heads::Kept;
use super::super::math::tanh;
use super::super::simd::Simd;
use super::keys::Keys;
use super::vectors::softmax;
use super::{Attend, OneSet, Seen, Sight};

impl<K: Kept> OneSet<'_, K> {
    /// Makes weights of the products of some queries and heads with their keys, `stride` apart:
    /// `softmax(scale·x + bias)`, with dropout.
    #[inline(always)]
    pub(super) fn weigh<S: Simd, const N: usize>(
        &mut self,
        s: S,
        of: [(usize, usize); N],
        sight: impl Sight,
        (scores, stride): (&mut [f32], usize),
    ) {
        let Attend { scale, soft_cap, dropout, .. } = self.attend;
        let (mut counts, mut skipped) = ([0; N], usize::MAX);
        for (r, (i, _)) in of.into_iter().enumerate() {
            counts[r] = sight.seen(i).end;
            skipped = skipped.min(sight.seen(i).start);
        }
        // Whole vectors, so that a key has the same lane in any company.
        let skipped = skipped / S::LANES * S::LANES;
        let mut scale = scale;
        if self.keys.bias.is_some() || self.keys.window.is_some() || soft_cap.is_some() {
            for (r, (i, head)) in of.into_iter().enumerate() {
                let of_query = &mut scores[r * stride..][..counts[r]];
                self.attend.finish_scores(s, &self.keys, head, sight.seen(i), of_query);
                of_query[skipped..sight.seen(i).start].fill(f32::NEG_INFINITY);
            }
            scale = 1.0;
        }
        for count in &mut counts {
            *count -= skipped;
        }
        let (sum, max) = softmax(s, &mut scores[skipped..], stride, counts, scale);
        for (r, (i, head)) in of.into_iter().enumerate().filter(|&(r, _)| counts[r] > 0) {
            let Seen { start, end, .. } = sight.seen(i);
            if start == end {
                continue;
            }
            if let Some(all) = &mut self.attend.log_sum_exp {
                let place = (i - self.attend.range.start) * self.attend.query.heads() + head;
                all[place] = max[r] + sum[r].ln();
            }
            if let Some(dropout) = dropout {
                let rows = self.keys.key.rows();
                let position = (head * self.attend.query.rows() + i) * rows + sight.row(start);
                dropout.apply(s, position as u64, &mut scores[r * stride..][start..end]);
            }
        }
    }
}

impl Attend<'_> {
    /// Makes scores of one query's products with the keys that it sees, `products[j]` being that of
    /// key j: with scale, cap and bias.
    #[inline(always)]
    pub(super) fn finish_scores<S: Simd, K: Kept>(
        &self,
        s: S,
        keys: &Keys<'_, K>,
        head: usize,
        seen: Seen,
        products: &mut [f32],
    ) {
        let x = &mut products[seen.range()];
        if x.is_empty() {
            return;
        }
        let mut scale = self.scale;
        if let Some(cap) = self.soft_cap {
            let factor = s.splat(scale / cap);
            for x in x.chunks_mut(S::LANES) {
                s.store_partial(tanh(s, s.mul(s.load_partial(x), factor)), x);
            }
            scale = cap;
        }
        if let Some(bias) = keys.bias {
            bias.add(s, (scale, head), seen.distance + seen.start as isize, x);
        } else {
            let scale = s.splat(scale);
            for x in x.chunks_mut(S::LANES) {
                s.store_partial(s.mul(s.load_partial(x), scale), x);
            }
        }
    }
}
