//! Softmax and its logarithm over rows.

use super::math::exp_of_negative;
use super::rows::Rows;
use super::simd::{Isa, Kernel, Simd};
use super::threads::Threads;

/// The greatest element; −∞ if there is none. The result is unspecified if one is NaN.
#[inline(always)]
pub(super) fn max<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut max = [s.splat(f32::NEG_INFINITY); 4];
    let mut blocks = x.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        for (max, x) in max.iter_mut().zip(block.chunks_exact(S::LANES)) {
            *max = s.max(*max, s.load(x));
        }
    }
    let mut vectors = blocks.remainder().chunks_exact(S::LANES);
    for x in &mut vectors {
        max[0] = s.max(max[0], s.load(x));
    }
    let max = s.max_lane(s.max(s.max(max[0], max[1]), s.max(max[2], max[3])));
    vectors.remainder().iter().fold(max, |max, &x| max.max(x))
}

/// Σ exp(x − shift).
#[inline(always)]
pub(super) fn sum_of_exponentials<S: Simd>(s: S, x: &[f32], shift: f32) -> f32 {
    let shift = s.splat(shift);
    let mut sums = [s.splat(0.0); 2];
    let mut blocks = x.chunks_exact(2 * S::LANES);
    for block in &mut blocks {
        for (sum, x) in sums.iter_mut().zip(block.chunks_exact(S::LANES)) {
            *sum = s.add(*sum, exp_of_negative(s, s.sub(s.load(x), shift)));
        }
    }
    for (sum, x) in sums.iter_mut().zip(blocks.remainder().chunks(S::LANES)) {
        // The lanes beyond the end must add nothing.
        let mut tail = [f32::NEG_INFINITY; 16];
        tail[..x.len()].copy_from_slice(x);
        *sum = s.add(*sum, exp_of_negative(s, s.sub(s.load(&tail), shift)));
    }
    s.sum(s.add(sums[0], sums[1]))
}

/// `exp(x − m)/Σ exp(x − m)` of each row, where m is its maximum, or the logarithm of that. The
/// rows of `out` are contiguous.
pub fn softmax(isa: Isa, threads: &Threads, x: Rows<'_>, log: bool, out: &mut [f32]) {
    assert_eq!(out.len(), x.rows() * x.cols());
    threads.rows(out, x.cols(), 40 * x.cols(), |range, out| {
        for (i, out) in range.zip(out.chunks_mut(x.cols())) {
            isa.run(SoftmaxRow { x: x.row(i), log, out });
        }
    });
}

struct SoftmaxRow<'a> {
    x: &'a [f32],
    log: bool,
    out: &'a mut [f32],
}

impl Kernel for SoftmaxRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let max = max(s, self.x);
        let sum = sum_of_exponentials(s, self.x, max);
        let (shift, log_sum) = (s.splat(max), s.splat(sum.ln()));
        for (x, out) in self.x.chunks(S::LANES).zip(self.out.chunks_mut(S::LANES)) {
            let shifted = s.sub(s.load_partial(x), shift);
            let y = if self.log {
                s.sub(shifted, log_sum)
            } else {
                s.div(exp_of_negative(s, shifted), s.splat(sum))
            };
            s.store_partial(y, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    #[test]
    fn equals_f64_for_all_tails_and_a_row_keeps_its_bits_in_any_company() {
        for (rows, cols) in [(1, 1), (3, 7), (5, 16), (2, 100), (40, 3001)] {
            let stride = cols + 1;
            let data: Vec<f32> = noise(9, rows * stride).iter().map(|x| x * 20.0).collect();
            let x = Rows::new(&data, rows, cols, stride);
            for log in [false, true] {
                let want: Vec<f64> = (0..rows).flat_map(|i| softmax64(x.row(i), log)).collect();
                everywhere(|isa, threads| {
                    let mut out = vec![0.0; rows * cols];
                    softmax(isa, threads, x, log, &mut out);
                    assert_near(&out, &want, if log { 1e-5 } else { 1e-6 });
                    let mut alone = vec![0.0; cols];
                    softmax(isa, threads, Rows::contiguous(x.row(rows - 1), cols), log, &mut alone);
                    assert_same_bits(&alone, &out[(rows - 1) * cols..]);
                });
            }
        }
    }

    fn softmax64(x: &[f32], log: bool) -> Vec<f64> {
        let max = x.iter().fold(f64::MIN, |max, &x| max.max(x as f64));
        let sum: f64 = x.iter().map(|&x| (x as f64 - max).exp()).sum();
        let log_softmax = x.iter().map(|&x| x as f64 - max - sum.ln());
        log_softmax.map(|y| if log { y } else { y.exp() }).collect()
    }

    #[test]
    fn hidden_entries_and_rows_without_entries() {
        everywhere(|isa, threads| {
            let x = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
            let mut out = [9.0; 4];
            softmax(isa, threads, Rows::contiguous(&x, 4), false, &mut out);
            assert_eq!(out, [0.0, 0.5, 0.0, 0.5]);
            softmax(isa, threads, Rows::new(&x, 3, 0, 0), false, &mut []);
        });
    }
}
