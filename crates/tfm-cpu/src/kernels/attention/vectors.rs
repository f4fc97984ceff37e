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

/// Replaces the scores x of `N` queries and heads, `counts[r]` of them from `r·stride` on, by `softmax(scale·x)`, and returns
/// for each the sum of `exp(scale·x − max)` and the maximum of all `scale·x`. A stride is whole vectors, and as long as the
/// longest; what lies behind the last score is overwritten. One softmax waits most of its time for its own results: several
/// go on at a time.
#[inline(always)]
pub(super) fn softmax<S: Simd, const N: usize>(
    s: S,
    scores: &mut [f32],
    stride: usize,
    counts: [usize; N],
    scale: f32,
) -> ([f32; N], [f32; N]) {
    let mut most = 0;
    for count in counts {
        most = most.max(count);
    }
    assert!(stride.is_multiple_of(S::LANES) && most <= stride && scores.len() >= N * stride);
    let (hidden, scale) = (s.splat(f32::NEG_INFINITY), s.splat(scale));
    let (mut maxima, mut sums) = ([hidden; N], [s.splat(0.0); N]);
    if most <= S::LANES {
        let mut x = [hidden; N];
        for r in 0..N {
            x[r] = scaled(s, &scores[r * stride..], counts[r], scale);
        }
        let max = greatest(s, x);
        for r in 0..N {
            x[r] = exp_of_negative(s, s.sub(x[r], s.splat(max[r])));
        }
        let sum = sums_of(s, x);
        for r in 0..N {
            s.store(s.mul(x[r], s.splat(1.0 / sum[r])), &mut scores[r * stride..]);
        }
        return (sum, max);
    }
    for at in (0..most).step_by(S::LANES) {
        for r in 0..N {
            let x = scaled(s, &scores[r * stride + at..], counts[r].saturating_sub(at), scale);
            s.store(x, &mut scores[r * stride + at..]);
            maxima[r] = s.max(x, maxima[r]);
        }
    }
    let max = greatest(s, maxima);
    for at in (0..most).step_by(S::LANES) {
        for r in 0..N {
            let scores = &mut scores[r * stride + at..];
            let e = exp_of_negative(s, s.sub(s.load(scores), s.splat(max[r])));
            s.store(e, scores);
            sums[r] = s.add(sums[r], e);
        }
    }
    let sum = sums_of(s, sums);
    for at in (0..most).step_by(S::LANES) {
        for r in 0..N {
            let scores = &mut scores[r * stride + at..];
            s.store(s.mul(s.load(scores), s.splat(1.0 / sum[r])), scores);
        }
    }
    (sum, max)
}

/// A vector of scores, of which so many are visible. The others are −∞, under any scale.
#[inline(always)]
fn scaled<S: Simd>(s: S, scores: &[f32], visible: usize, scale: S::F) -> S::F {
    let hidden = s.splat(f32::NEG_INFINITY);
    s.first_lanes(s.mul(s.load(scores), scale), visible.min(S::LANES), hidden)
}

/// The greatest lane of each vector.
#[inline(always)]
fn greatest<S: Simd, const N: usize>(s: S, v: [S::F; N]) -> [f32; N] {
    let mut out = [0.0; N];
    if let (Some(v), Some(out)) = (v.first_chunk(), out.first_chunk_mut()) {
        *out = s.max4(*v);
    } else {
        for r in 0..N {
            out[r] = s.max_lane(v[r]);
        }
    }
    out
}

/// The sum of each vector's lanes.
#[inline(always)]
fn sums_of<S: Simd, const N: usize>(s: S, v: [S::F; N]) -> [f32; N] {
    let mut out = [0.0; N];
    if let (Some(v), Some(out)) = (v.first_chunk(), out.first_chunk_mut()) {
        *out = s.sum4(*v);
    } else {
        for r in 0..N {
            out[r] = s.sum(v[r]);
        }
    }
    out
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
