//! Layer normalisation and RMS normalisation over rows.

use super::reduce::sum_of;
use super::rows::Rows;
use super::simd::{Isa, Kernel, Simd};
use super::threads::Threads;

/// `(x − μ)/√(σ² + ε)·weight + bias` of each row, where μ is its mean and σ² its biased variance.
/// The rows of `out` are contiguous.
pub fn layer_norm(
    isa: Isa,
    threads: &Threads,
    x: Rows<'_>,
    weight: &[f32],
    bias: &[f32],
    epsilon: f32,
    out: &mut [f32],
) {
    let d = x.cols();
    assert!(weight.len() == d && bias.len() == d && out.len() == x.rows() * d);
    threads.rows(out, d, 10 * d, |range, out| {
        let first = range.start;
        isa.run(Norm::<true> { x, weight, bias, epsilon, first, out });
    });
}

/// `x/√(mean(x²) + ε)·weight` of each row. The rows of `out` are contiguous.
pub fn rms_norm(
    isa: Isa,
    threads: &Threads,
    x: Rows<'_>,
    weight: &[f32],
    epsilon: f32,
    out: &mut [f32],
) {
    let d = x.cols();
    assert!(weight.len() == d && out.len() == x.rows() * d);
    threads.rows(out, d, 6 * d, |range, out| {
        let first = range.start;
        isa.run(Norm::<false> { x, weight, bias: &[], epsilon, first, out });
    });
}

/// The numbers that normalise a row: `1/√(mean((x − μ)²) + ε)` and μ, where μ is the row's mean if
/// `CENTRED`, and otherwise 0.
#[inline(always)]
pub(super) fn factor_and_mean<S: Simd, const CENTRED: bool>(
    s: S,
    x: &[f32],
    epsilon: f32,
) -> (S::F, S::F) {
    let d = x.len() as f32;
    let mean = s.splat(if CENTRED { sum_of(s, x, |x| x) / d } else { 0.0 });
    let squares = |x: S::F| {
        let c = if CENTRED { s.sub(x, mean) } else { x };
        s.mul(c, c)
    };
    let variance = sum_of(s, x, squares) / d;
    (s.splat(1.0 / (variance + epsilon).sqrt()), mean)
}

/// Normalises a vector of a row.
#[inline(always)]
pub(super) fn normal<S: Simd, const CENTRED: bool>(
    s: S,
    x: S::F,
    (factor, mean): (S::F, S::F),
) -> S::F {
    s.mul(if CENTRED { s.sub(x, mean) } else { x }, factor)
}

/// Layer normalisation if `CENTRED`, otherwise RMS normalisation, which has no bias.
struct Norm<'a, const CENTRED: bool> {
    x: Rows<'a>,
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
    first: usize,
    out: &'a mut [f32],
}

impl<const CENTRED: bool> Kernel for Norm<'_, CENTRED> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.x.cols();
        if d == 0 {
            return;
        }
        for (i, out) in self.out.chunks_exact_mut(d).enumerate() {
            let x = self.x.row(self.first + i);
            let by = factor_and_mean::<S, CENTRED>(s, x, self.epsilon);
            // Without a bias, the weight stands in its place, where nothing reads it.
            let bias = if CENTRED { self.bias } else { self.weight };
            let operands = x.chunks(S::LANES).zip(self.weight.chunks(S::LANES));
            let operands = operands.zip(bias.chunks(S::LANES));
            for (((x, weight), bias), out) in operands.zip(out.chunks_mut(S::LANES)) {
                let normal = normal::<S, CENTRED>(s, s.load_partial(x), by);
                let weight = s.load_partial(weight);
                let y = if CENTRED {
                    s.fma(normal, weight, s.load_partial(bias))
                } else {
                    s.mul(normal, weight)
                };
                s.store_partial(y, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    #[test]
    fn equals_f64_for_all_tails_and_a_row_keeps_its_bits_in_any_company() {
        for (rows, d) in [(1, 1), (3, 7), (5, 16), (4, 65), (2, 100), (2000, 512)] {
            let stride = d + 5;
            let data: Vec<f32> = noise(1, rows * stride).iter().map(|x| x * 3.0 + 1.0).collect();
            let (weight, bias) = (noise(2, d), noise(3, d));
            let x = Rows::new(&data, rows, d, stride);
            for bias in [Some(&bias[..]), None] {
                let want: Vec<f64> =
                    (0..rows).flat_map(|i| norm64(x.row(i), &weight, bias)).collect();
                everywhere(|isa, threads| {
                    let norm = |x, out: &mut [f32]| match bias {
                        Some(bias) => layer_norm(isa, threads, x, &weight, bias, 1e-5, out),
                        None => rms_norm(isa, threads, x, &weight, 1e-5, out),
                    };
                    let mut out = vec![0.0; rows * d];
                    norm(x, &mut out);
                    assert_near(&out, &want, 2e-6);
                    let mut alone = vec![0.0; d];
                    norm(Rows::contiguous(x.row(rows - 1), d), &mut alone);
                    assert_same_bits(&alone, &out[(rows - 1) * d..]);
                });
            }
        }
    }

    /// Layer norm with a bias, RMS norm without.
    fn norm64(x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = bias.map_or(0.0, |_| x.iter().map(|&x| x as f64).sum::<f64>() / n);
        let variance = x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n;
        let factor = 1.0 / (variance + 1e-5).sqrt();
        let affine = |i: usize| {
            let bias = bias.map_or(0.0, |bias| bias[i] as f64);
            (x[i] as f64 - mean) * factor * weight[i] as f64 + bias
        };
        (0..x.len()).map(affine).collect()
    }
}
