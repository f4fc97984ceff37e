//! What attention does with the vectors of one head: products with keys, the softmax, sums of
//! values.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over ranges are unrolled, those over arrays may not be"
)]

use super::super::heads::HeadElement;
use super::super::math::exp_of_negative;
use super::super::simd::Simd;

/// Keys whose scores are computed together.
pub(super) const SCORED: usize = 4;
/// Vectors of a head whose products are written out one after the other.
const UNROLLED: usize = 4;

/// Where the values of one head lie. (A trait, since the compiler leaves closures out of line where
/// a function is large, and then each call spills the sums.)
pub(super) trait Values<'v, K>: Copy {
    /// The value of key j.
    fn of(&self, j: usize) -> &'v [K];
}

/// The values from that of key `first` on.
#[derive(Clone, Copy)]
pub(super) struct ValuesFrom<V> {
    pub(super) first: usize,
    pub(super) values: V,
}

impl<'v, K, V: Values<'v, K>> Values<'v, K> for ValuesFrom<V> {
    #[inline(always)]
    fn of(&self, j: usize) -> &'v [K] {
        self.values.of(self.first + j)
    }
}

/// Adds `Σ_j weights[r][j]·values.of(j)` to the `size` elements from `places[r]` on, for each of
/// `N` queries r. All have as many weights. The sums of a query are the same whatever `N` is:
/// together, each value is loaded once.
#[inline(always)]
pub(super) fn add_values<'v, S: Simd, K: HeadElement, const N: usize>(
    s: S,
    weights: [&[f32]; N],
    values: impl Values<'v, K>,
    (out, offsets): (&mut [f32], [usize; N]),
    size: usize,
) {
    let mut at = 0;
    while at + 4 * S::LANES <= size {
        weighted_sums::<S, K, N, 4>(s, weights, values, (out, offsets), at);
        at += 4 * S::LANES;
    }
    while at + S::LANES <= size {
        weighted_sums::<S, K, N, 1>(s, weights, values, (out, offsets), at);
        at += S::LANES;
    }
    if at < size {
        for (weights, offset) in weights.into_iter().zip(offsets) {
            last_sum(s, weights, values, &mut out[offset + at..offset + size], at);
        }
    }
}

/// The dot products of `N` queries and four keys. Those of a query are the same whatever `N` is.
#[inline(always)]
pub(super) fn dots<S: Simd, K: HeadElement, const N: usize>(
    s: S,
    queries: [&[f32]; N],
    keys: [&[K]; SCORED],
) -> [[f32; SCORED]; N] {
    let mut sums = [[s.splat(0.0); SCORED]; N];
    let (size, mut at) = (queries[0].len(), 0);
    while at + UNROLLED * S::LANES <= size {
        let (mut q, mut k) = ([&[][..]; N], [&[][..]; SCORED]);
        for r in 0..N {
            q[r] = &queries[r][at..at + UNROLLED * S::LANES];
        }
        for j in 0..SCORED {
            k[j] = &keys[j][at..at + UNROLLED * S::LANES];
        }
        for v in 0..UNROLLED {
            let mut key = [s.splat(0.0); SCORED];
            for j in 0..SCORED {
                key[j] = K::load(s, &k[j][v * S::LANES..(v + 1) * S::LANES]);
            }
            for r in 0..N {
                let query = s.load(&q[r][v * S::LANES..(v + 1) * S::LANES]);
                for j in 0..SCORED {
                    sums[r][j] = s.fma(query, key[j], sums[r][j]);
                }
            }
        }
        at += UNROLLED * S::LANES;
    }
    while at < size {
        let end = (at + S::LANES).min(size);
        let mut key = [s.splat(0.0); SCORED];
        for j in 0..SCORED {
            key[j] = K::load_partial(s, &keys[j][at..end]);
        }
        for r in 0..N {
            let query = s.load_partial(&queries[r][at..end]);
            for j in 0..SCORED {
                sums[r][j] = s.fma(query, key[j], sums[r][j]);
            }
        }
        at = end;
    }
    let mut out = [[0.0; SCORED]; N];
    for r in 0..N {
        out[r] = s.sum4(sums[r]);
    }
    out
}

/// Replaces the scores x of `N` queries and heads, `counts[r]` of them from `r·stride` on, by
/// `softmax(scale·x)`. Returns for each the sum of `exp(scale·x − max)` and the maximum of all
/// `scale·x`. A stride is whole vectors, at least as long as the longest. What lies behind the last
/// score is overwritten. One softmax waits most of its time for its own results, so several go on
/// at a time.
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
    let whole = most.next_multiple_of(S::LANES);
    assert!(stride.is_multiple_of(S::LANES) && most <= stride);
    assert!(scores.len() >= (N - 1) * stride + whole);
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

/// A vector of scaled scores. Those behind the first `visible` are −∞, under any scale.
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

/// `out[places[r] + at..] += Σ_j weights[r][j]·values.of(j)[at..]`, for `VECTORS` whole vectors.
#[inline(always)]
fn weighted_sums<'v, S: Simd, K: HeadElement, const N: usize, const VECTORS: usize>(
    s: S,
    weights: [&[f32]; N],
    values: impl Values<'v, K>,
    (out, offsets): (&mut [f32], [usize; N]),
    at: usize,
) {
    let count = weights[0].len();
    let (mut acc, mut w) = ([[s.splat(0.0); VECTORS]; N], [&[][..]; N]);
    for r in 0..N {
        w[r] = &weights[r][..count];
        let out = &out[offsets[r] + at..][..VECTORS * S::LANES];
        for v in 0..VECTORS {
            acc[r][v] = s.load(&out[v * S::LANES..(v + 1) * S::LANES]);
        }
    }
    for j in 0..count {
        let value = &values.of(j)[at..at + VECTORS * S::LANES];
        let mut loaded = [s.splat(0.0); VECTORS];
        for v in 0..VECTORS {
            loaded[v] = K::load(s, &value[v * S::LANES..(v + 1) * S::LANES]);
        }
        for r in 0..N {
            let weight = s.splat(w[r][j]);
            for v in 0..VECTORS {
                acc[r][v] = s.fma(weight, loaded[v], acc[r][v]);
            }
        }
    }
    for r in 0..N {
        let out = &mut out[offsets[r] + at..][..VECTORS * S::LANES];
        for v in 0..VECTORS {
            s.store(acc[r][v], &mut out[v * S::LANES..(v + 1) * S::LANES]);
        }
    }
}

/// As [`weighted_sums`], for one query and the part of a vector that `out` is.
#[inline(always)]
fn last_sum<'v, S: Simd, K: HeadElement>(
    s: S,
    weights: &[f32],
    values: impl Values<'v, K>,
    out: &mut [f32],
    at: usize,
) {
    let mut acc = s.load_partial(out);
    for (j, &weight) in weights.iter().enumerate() {
        let value = K::load_partial(s, &values.of(j)[at..at + out.len()]);
        acc = s.fma(s.splat(weight), value, acc);
    }
    s.store_partial(acc, out);
}
