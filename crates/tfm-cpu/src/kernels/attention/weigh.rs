//! From products of queries and keys to weights.

use super::super::heads::HeadElement;
use super::super::math::tanh;
use super::super::simd::Simd;
use super::keys::Keys;
use super::vectors::softmax;
use super::{Attend, KeySpan, OneSet, VisibleKeys};

impl<K: HeadElement> OneSet<'_, K> {
    /// Makes weights of the products of some queries and heads with their keys, `stride` apart:
    /// `softmax(scale·x + bias)`, with dropout.
    #[inline(always)]
    pub(super) fn weigh<S: Simd, const N: usize>(
        &mut self,
        s: S,
        of: [(usize, usize); N],
        visible: impl VisibleKeys,
        (scores, stride): (&mut [f32], usize),
    ) {
        let Attend { scale, soft_cap, dropout, .. } = self.attend;
        let (mut counts, mut skipped) = ([0; N], usize::MAX);
        for (r, (i, _)) in of.into_iter().enumerate() {
            counts[r] = visible.span(i).end;
            skipped = skipped.min(visible.span(i).start);
        }
        // Whole vectors are skipped, so that a key has the same lane whatever the other queries
        // see.
        let skipped = skipped / S::LANES * S::LANES;
        let mut scale = scale;
        if self.keys.bias.is_some() || self.keys.window.is_some() || soft_cap.is_some() {
            for (r, (i, head)) in of.into_iter().enumerate() {
                let of_query = &mut scores[r * stride..][..counts[r]];
                self.attend.finish_scores(s, &self.keys, head, visible.span(i), of_query);
                of_query[skipped..visible.span(i).start].fill(f32::NEG_INFINITY);
            }
            scale = 1.0;
        }
        for count in &mut counts {
            *count -= skipped;
        }
        let (sum, max) = softmax(s, &mut scores[skipped..], stride, counts, scale);
        for (r, (i, head)) in of.into_iter().enumerate().filter(|&(r, _)| counts[r] > 0) {
            let KeySpan { start, end, .. } = visible.span(i);
            if start == end {
                continue;
            }
            if let Some(all) = &mut self.attend.log_sum_exp {
                let offset = (i - self.attend.range.start) * self.attend.query.heads() + head;
                all[offset] = max[r] + sum[r].ln();
            }
            if let Some(dropout) = dropout {
                let rows = self.keys.key.rows();
                let position = (head * self.attend.query.rows() + i) * rows + visible.row(start);
                dropout.apply(s, position as u64, &mut scores[r * stride..][start..end]);
            }
        }
    }
}

impl Attend<'_> {
    /// Makes scores of one query's products with the keys of `span`, by scale, cap and bias.
    /// `products[j]` is that of key j.
    #[inline(always)]
    pub(super) fn finish_scores<S: Simd, K: HeadElement>(
        &self,
        s: S,
        keys: &Keys<'_, K>,
        head: usize,
        span: KeySpan,
        products: &mut [f32],
    ) {
        let x = &mut products[span.range()];
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
            bias.add(s, (scale, head), span.distance + span.start as isize, x);
        } else {
            let scale = s.splat(scale);
            for x in x.chunks_mut(S::LANES) {
                s.store_partial(s.mul(s.load_partial(x), scale), x);
            }
        }
    }
}
