//! What attention does with the vectors of one head: products with keys, the softmax, sums of values.

use super::super::heads::Kept;
use super::super::math::exp_of_negative;
use super::super::simd::Simd;

/// Keys whose scores are computed together.
pub(super) const SCORED: usize = 4;
/// Vectors of a head whose products are written out one after the other.
const UNROLLED: usize = 4;

/// Adds `Σ_j weights[j]·value(j)` to `out`.
#[inline(always)]
pub(super) fn add_values<'v, S: Simd, K: Kept>(
    s: S,
    weights: &[f32],
    value: impl Fn(usize) -> &'v [K] + Copy,
    out: &mut [f32],
) {
    let size = out.len();
    let mut at = 0;
    while at + 4 * S::LANES <= size {
        weighted_sum::<S, K, 4>(s, weights, value, &mut out[at..at + 4 * S::LANES], at);
        at += 4 * S::LANES;
    }
    while at < size {
        let end = (at + S::LANES).min(size);
        weighted_sum::<S, K, 1>(s, weights, value, &mut out[at..end], at);
        at = end;
    }
}

/// The dot products of a query and four keys.
#[inline(always)]
pub(super) fn dot4<S: Simd, K: Kept>(s: S, query: &[f32], keys: [&[K]; SCORED]) -> [f32; SCORED] {
    let mut sums = [s.splat(0.0); SCORED];
    let (size, mut at) = (query.len(), 0);
    while at + UNROLLED * S::LANES <= size {
        let block = at..at + UNROLLED * S::LANES;
        let query = &query[block.clone()];
        for (sum, key) in sums.iter_mut().zip(keys) {
            let key = &key[block.clone()];
            for v in 0..UNROLLED {
                let lanes = v * S::LANES..(v + 1) * S::LANES;
                *sum = s.fma(s.load(&query[lanes.clone()]), K::load(s, &key[lanes]), *sum);
            }
        }
        at = block.end;
    }
    while at < size {
        let lanes = at..(at + S::LANES).min(size);
        let q = s.load_partial(&query[lanes.clone()]);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = s.fma(q, K::load_partial(s, &key[lanes.clone()]), *sum);
        }
        at = lanes.end;
    }
    s.sum4(sums)
}

/// Replaces each score x by `exp(scale·x − max)` with the maximum of all `scale·x`, and returns their sum
/// and the maximum. The scores fill whole vectors.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(s: S, scores: &mut [f32], scale: f32) -> (f32, f32) {
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
        let e = exp_of_negative(s, s.sub(s.load(scores), shift));
        s.store(e, scores);
        sum = s.add(sum, e);
    }
    (s.sum(sum), max)
}

/// `out += Σ_j weights[j]·value(j)[at..]`, for `VECTORS` whole vectors, or a part of one vector.
#[inline(always)]
fn weighted_sum<'v, S: Simd, K: Kept, const VECTORS: usize>(
    s: S,
    weights: &[f32],
    value: impl Fn(usize) -> &'v [K],
    out: &mut [f32],
    at: usize,
) {
    if out.len() == VECTORS * S::LANES {
        let mut acc = [s.splat(0.0); VECTORS];
        for (acc, out) in acc.iter_mut().zip(out.chunks_exact(S::LANES)) {
            *acc = s.load(out);
        }
        for (j, &weight) in weights.iter().enumerate() {
            let (weight, value) = (s.splat(weight), &value(j)[at..at + VECTORS * S::LANES]);
            for (acc, value) in acc.iter_mut().zip(value.chunks_exact(S::LANES)) {
                *acc = s.fma(weight, K::load(s, value), *acc);
            }
        }
        for (acc, out) in acc.into_iter().zip(out.chunks_exact_mut(S::LANES)) {
            s.store(acc, out);
        }
    } else {
        let mut acc = s.load_partial(out);
        for (j, &weight) in weights.iter().enumerate() {
            let value = K::load_partial(s, &value(j)[at..at + out.len()]);
            acc = s.fma(s.splat(weight), value, acc);
        }
        s.store_partial(acc, out);
    }
}
