//! Layer normalisation over rows.

use super::reduce::sum_of;
use super::rows::Rows;
use super::simd::{Isa, Kernel, Simd};
use super::threads::Threads;

/// `(x − μ)/√(σ² + ε)·weight + bias` of each row with its mean μ and biased variance σ², into `out`, whose rows
/// are contiguous.
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
        isa.run(LayerNorm { x, weight, bias, epsilon, first: range.start, out });
    });
}

struct LayerNorm<'a> {
    x: Rows<'a>,
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.x.cols();
        if d == 0 {
            return;
        }
        for (i, out) in self.out.chunks_exact_mut(d).enumerate() {
            let x = self.x.row(self.first + i);
            let mean = sum_of(s, x, |x| x) / d as f32;
            let centre = s.splat(mean);
            let squares = |x: S::F| {
                let c = s.sub(x, centre);
                s.mul(c, c)
            };
            let variance = sum_of(s, x, squares) / d as f32;
            let factor = s.splat(1.0 / (variance + self.epsilon).sqrt());
            let operands = x.chunks(S::LANES).zip(self.weight.chunks(S::LANES));
            let operands = operands.zip(self.bias.chunks(S::LANES));
            for (((x, weight), bias), out) in operands.zip(out.chunks_mut(S::LANES)) {
                let normal = s.mul(s.sub(s.load_partial(x), centre), factor);
                let y = s.fma(normal, s.load_partial(weight), s.load_partial(bias));
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
            let want: Vec<f64> = (0..rows).flat_map(|i| norm64(x.row(i), &weight, &bias)).collect();
            everywhere(|isa, threads| {
                let mut out = vec![0.0; rows * d];
                layer_norm(isa, threads, x, &weight, &bias, 1e-5, &mut out);
                assert_near(&out, &want, 2e-6);
                let mut alone = vec![0.0; d];
                let last = Rows::contiguous(x.row(rows - 1), d);
                layer_norm(isa, threads, last, &weight, &bias, 1e-5, &mut alone);
                assert_same_bits(&alone, &out[(rows - 1) * d..]);
            });
        }
    }

    fn norm64(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().map(|&x| x as f64).sum::<f64>() / n;
        let variance = x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n;
        let factor = 1.0 / (variance + 1e-5).sqrt();
        let affine = |i: usize| (x[i] as f64 - mean) * factor * weight[i] as f64 + bias[i] as f64;
        (0..x.len()).map(affine).collect()
    }
}
