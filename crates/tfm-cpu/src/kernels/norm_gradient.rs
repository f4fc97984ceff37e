//! The gradients of layer normalisation and RMS normalisation.

use std::collections::TryReserveError;

use super::norm::{factor_and_mean, normal};
use super::reduce::sum;
use super::rows::Rows;
use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads, share};

/// The number of rows whose contributions to the gradients of weight and bias are summed together.
/// It does not depend on the number of threads.
const BLOCK_ROWS: usize = 32;

/// The gradients that [`norm_gradient`] writes.
#[derive(Debug)]
pub struct NormGradients<'a> {
    /// `[rows, d]`
    pub x: &'a mut [f32],
    /// `[d]`
    pub weight: &'a mut [f32],
    /// `[d]`; `None` for RMS normalisation.
    pub bias: Option<&'a mut [f32]>,
}

/// The gradients of layer normalisation, `y = n·weight + bias` with `n = (x − μ)/√(σ² + ε)`, given
/// `dy`. With `g = dy·weight` they are `dx = (g − mean(g) − n·mean(g·n))/√(σ² + ε)` and, summed
/// over the rows, `dweight = Σ dy·n` and `dbias = Σ dy`. If there is no gradient of a bias, they
/// are those of RMS normalisation, where 0 replaces μ and mean(g).
///
/// # Errors
/// There is no memory for the partial sums.
pub fn norm_gradient(
    isa: Isa,
    threads: &Threads,
    scratch: &Scratch,
    operands: [Rows<'_>; 2],
    weight: &[f32],
    epsilon: f32,
    out: NormGradients<'_>,
) -> Result<(), TryReserveError> {
    if out.bias.is_some() {
        gradient::<true>(isa, threads, scratch, operands, weight, epsilon, out)
    } else {
        gradient::<false>(isa, threads, scratch, operands, weight, epsilon, out)
    }
}

fn gradient<const CENTRED: bool>(
    isa: Isa,
    threads: &Threads,
    scratch: &Scratch,
    [x, dy]: [Rows<'_>; 2],
    weight: &[f32],
    epsilon: f32,
    out: NormGradients<'_>,
) -> Result<(), TryReserveError> {
    let (rows, d) = (x.rows(), x.cols());
    assert!([dy.rows(), dy.cols(), weight.len()] == [rows, d, d]);
    assert!(out.x.len() == rows * d && out.weight.len() == d);
    assert!(out.bias.as_ref().is_none_or(|bias| bias.len() == d));
    let blocks = rows.div_ceil(BLOCK_ROWS);
    // For each block the sums for the weight and then those for the bias; behind the blocks, their
    // sums.
    let width = if CENTRED { 2 * d } else { d };
    let mut memory = scratch.take((blocks + 1) * width)?;
    let (partial, sums) = memory[..(blocks + 1) * width].split_at_mut(blocks * width);
    let (dx, shared) = (SharedMut::new(out.x), SharedMut::new(partial));
    let tasks = threads.tasks(rows.saturating_mul(40 * d), blocks);
    threads.run(tasks, |task| {
        for block in share(blocks, tasks, task) {
            let first = block * BLOCK_ROWS;
            let last = rows.min(first + BLOCK_ROWS);
            // SAFETY: blocks have different rows and different sums, and each block is computed
            // once.
            let (dx, sums) = unsafe {
                (dx.slice(first * d..last * d), shared.slice(block * width..(block + 1) * width))
            };
            isa.run(Block::<CENTRED> { x, weight, epsilon, dy, first, dx, sums });
        }
    });
    sum(isa, threads, partial, [1, blocks, width], sums);
    out.weight.copy_from_slice(&sums[..d]);
    if let Some(bias) = out.bias {
        bias.copy_from_slice(&sums[d..]);
    }
    Ok(())
}

struct Block<'a, const CENTRED: bool> {
    x: Rows<'a>,
    weight: &'a [f32],
    epsilon: f32,
    dy: Rows<'a>,
    first: usize,
    dx: &'a mut [f32],
    sums: &'a mut [f32],
}

impl<const CENTRED: bool> Kernel for Block<'_, CENTRED> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.x.cols();
        self.sums.fill(0.0);
        if d == 0 {
            return;
        }
        let (weight_sums, bias_sums) = self.sums.split_at_mut(d);
        let per_element = 1.0 / d as f32;
        for (i, dx) in self.dx.chunks_exact_mut(d).enumerate() {
            let (x, dy) = (self.x.row(self.first + i), self.dy.row(self.first + i));
            let by = factor_and_mean::<S, CENTRED>(s, x, self.epsilon);
            // Σ g and Σ g·n. Behind the end n is not 0, but g is.
            let mut sums = [[s.splat(0.0); 2]; 2];
            let operands = x.chunks(S::LANES).zip(dy.chunks(S::LANES));
            for (v, ((x, dy), w)) in operands.zip(self.weight.chunks(S::LANES)).enumerate() {
                let g = s.mul(s.load_partial(dy), s.load_partial(w));
                let [g_sum, gn_sum] = &mut sums[v % 2];
                if CENTRED {
                    *g_sum = s.add(*g_sum, g);
                }
                *gn_sum = s.fma(g, normal::<S, CENTRED>(s, s.load_partial(x), by), *gn_sum);
            }
            let [even, odd] = sums;
            let g_mean = s.splat(s.sum(s.add(even[0], odd[0])) * per_element);
            let gn_mean = s.splat(-s.sum(s.add(even[1], odd[1])) * per_element);
            let operands = x.chunks(S::LANES).zip(dy.chunks(S::LANES));
            let operands = operands.zip(self.weight.chunks(S::LANES));
            let results = dx.chunks_mut(S::LANES).zip(weight_sums.chunks_mut(S::LANES));
            for (((x, dy), w), (dx, weight_sum)) in operands.zip(results) {
                let dy = s.load_partial(dy);
                let n = normal::<S, CENTRED>(s, s.load_partial(x), by);
                let g = s.mul(dy, s.load_partial(w));
                let rest = s.fma(n, gn_mean, if CENTRED { s.sub(g, g_mean) } else { g });
                s.store_partial(s.mul(rest, by.0), dx);
                s.store_partial(s.fma(dy, n, s.load_partial(weight_sum)), weight_sum);
            }
            if CENTRED {
                for (dy, bias_sum) in dy.chunks(S::LANES).zip(bias_sums.chunks_mut(S::LANES)) {
                    let dy = s.load_partial(dy);
                    s.store_partial(s.add(dy, s.load_partial(bias_sum)), bias_sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    #[test]
    fn equals_f64_for_all_tails_with_any_threads() {
        for (rows, d) in [(0, 3), (1, 1), (3, 7), (5, 16), (4, 65), (70, 100), (700, 256)] {
            let stride = d + 5;
            let data: Vec<f32> = noise(1, rows * stride).iter().map(|x| x * 3.0 + 1.0).collect();
            let (weight, gradient) = (noise(2, d), noise(3, rows * stride));
            let (x, dy) =
                (Rows::new(&data, rows, d, stride), Rows::new(&gradient, rows, d, stride));
            for centred in [true, false] {
                let (mut want, mut d_weight, mut d_bias) = (vec![], vec![0.0; d], vec![0.0; d]);
                for i in 0..rows {
                    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                    let (x, dy, w) = (wide(x.row(i)), wide(dy.row(i)), wide(&weight));
                    let mean_of = |f: &dyn Fn(usize) -> f64| (0..d).map(f).sum::<f64>() / d as f64;
                    let if_centred = |x: f64| if centred { x } else { 0.0 };
                    let mean = if_centred(mean_of(&|j| x[j]));
                    let factor = 1.0 / (mean_of(&|j| (x[j] - mean).powi(2)) + 1e-5).sqrt();
                    let n = |j: usize| (x[j] - mean) * factor;
                    let g = if_centred(mean_of(&|j| dy[j] * w[j]));
                    let gn = mean_of(&|j| dy[j] * w[j] * n(j));
                    for j in 0..d {
                        want.push(factor * (dy[j] * w[j] - g - n(j) * gn));
                        d_weight[j] += dy[j] * n(j);
                        d_bias[j] += dy[j];
                    }
                }
                // With a single element the variance is 0, and every term is a rounding error times
                // 1/√ε.
                let scratch = Scratch::new();
                let mut first: Option<(Isa, Vec<f32>)> = None;
                everywhere(|isa, threads| {
                    let mut all = vec![9.0; (rows + 2) * d];
                    let (dx, rest) = all.split_at_mut(rows * d);
                    let (dw, db) = rest.split_at_mut(d);
                    let bias = centred.then_some(&mut *db);
                    let out = NormGradients { x: dx, weight: dw, bias };
                    norm_gradient(isa, threads, &scratch, [x, dy], &weight, 1e-5, out).unwrap();
                    assert_near(dx, &want, 1e-5);
                    assert_near(dw, &d_weight, 1e-5 * (rows as f64).sqrt().max(1.0));
                    if centred {
                        assert_near(db, &d_bias, 1e-5 * (rows as f64).sqrt().max(1.0));
                    }
                    match &first {
                        Some((set, bits)) if *set == isa => assert_same_bits(&all, bits),
                        _ => first = Some((isa, all)),
                    }
                });
            }
        }
    }
}
