//! Products of two matrices neither of which is known before. Large ones are packed by this crate,
//! small ones are left to `faer`.

use std::collections::TryReserveError;

use faer::linalg::matmul::matmul as product;
use faer::{Accum, MatMut, MatRef, Par};

use super::packed_matmul::packed_matmul;
use super::scratch::Scratch;
use super::simd::Isa;
use super::threads::{SharedMut, Threads};

/// A matrix whose rows or whose columns are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements from the matrix's first one on.
    pub data: &'a [f32],
    /// Elements from the start of one row (or column) to that of the next.
    pub stride: usize,
    /// Whether the rows are contiguous, not the columns.
    pub by_rows: bool,
}

impl<'a> Matrix<'a> {
    fn view(&self, rows: usize, cols: usize) -> MatRef<'a, f32> {
        if self.by_rows {
            MatRef::from_row_major_slice_with_stride(self.data, rows, cols, self.stride)
        } else {
            MatRef::from_column_major_slice_with_stride(self.data, rows, cols, self.stride)
        }
    }
}

/// Rows of a product that one task computes. They must not depend on the number of threads, since
/// `faer` chooses its order of summation by the shape.
const BLOCK_ROWS: usize = 256;

/// The number of floating-point operations from which packing pays.
const LARGE: usize = 1 << 23;

/// `out[i] = pairs[i].0 · pairs[i].1` for pairs of matrices `[m, k]` and `[k, n]`, with
/// `out [pairs, m, n]`.
///
/// # Errors
/// There is no memory for packed matrices.
pub fn matmul(
    isa: Isa,
    threads: &Threads,
    scratch: &Scratch,
    [m, k, n]: [usize; 3],
    pairs: &[(Matrix<'_>, Matrix<'_>)],
    out: &mut [f32],
) -> Result<(), TryReserveError> {
    assert_eq!(out.len(), pairs.len() * m * n);
    if out.is_empty() || k == 0 {
        out.fill(0.0);
        return Ok(());
    }
    if m.min(n) >= 16 && k >= 16 && 2 * m * k * n >= LARGE {
        let mut products = pairs.iter().zip(out.chunks_exact_mut(m * n));
        return products.try_for_each(|(&pair, out)| {
            packed_matmul(isa, threads, scratch, [m, k, n], pair, out)
        });
    }
    let blocks = m.div_ceil(BLOCK_ROWS);
    let out = SharedMut::new(out);
    let block = |i: usize| {
        let (pair, first) = (i / blocks, i % blocks * BLOCK_ROWS);
        let rows = BLOCK_ROWS.min(m - first);
        let start = (pair * m + first) * n;
        // SAFETY: blocks are different rows of the output, and each block is computed once.
        let out = unsafe { out.slice(start..start + rows * n) };
        let (a, b) = pairs[pair];
        product(
            MatMut::from_row_major_slice_mut(out, rows, n),
            Accum::Replace,
            a.view(m, k).subrows(first, rows),
            b.view(k, n),
            1.0,
            Par::Seq,
        );
    };
    let all = pairs.len() * blocks;
    let tasks = threads.tasks(all.saturating_mul(2 * m.min(BLOCK_ROWS) * k * n), all);
    threads.run(tasks, |task| super::threads::share(all, tasks, task).for_each(block));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    #[test]
    fn equals_the_f64_product_in_all_orders_with_any_threads() {
        // Small and large products. The last ones have more than one block of rows, of columns and
        // of inner elements, with tails of each.
        let shapes = [[1, 1, 1], [7, 5, 3], [300, 64, 30], [3, 0, 2], [0, 3, 2]];
        let large = [[600, 56, 130], [61, 1000, 77], [70, 270, 1100], [200, 517, 43]];
        for [m, k, n] in shapes.into_iter().chain(large) {
            let (a, b) = (noise(1, 2 * m * k), noise(2, 2 * k * n));
            for by_rows in [(true, true), (true, false), (false, true), (false, false)] {
                let matrix = |data, rows, cols, by_rows| Matrix {
                    data,
                    stride: if by_rows { cols } else { rows },
                    by_rows,
                };
                let pair = |i: usize| {
                    let (a, b) = (&a[i * m * k..(i + 1) * m * k], &b[i * k * n..(i + 1) * k * n]);
                    (matrix(a, m, k, by_rows.0), matrix(b, k, n, by_rows.1))
                };
                let at = |x: &Matrix<'_>, i: usize, j: usize| {
                    let (i, j) = if x.by_rows { (i, j) } else { (j, i) };
                    x.data[i * x.stride + j] as f64
                };
                let pairs = [pair(0), pair(1)];
                let dot = |(a, b): &(Matrix<'_>, Matrix<'_>), i, j| -> f64 {
                    (0..k).map(|p| at(a, i, p) * at(b, p, j)).sum()
                };
                let want: Vec<f64> =
                    (0..2 * m * n).map(|e| dot(&pairs[e / (m * n)], e / n % m, e % n)).collect();
                let scratch = Scratch::new();
                let mut first: Option<(Isa, Vec<f32>)> = None;
                everywhere(|isa, threads| {
                    let mut out = vec![9.0; 2 * m * n];
                    matmul(isa, threads, &scratch, [m, k, n], &pairs, &mut out).unwrap();
                    match &first {
                        Some((set, bits)) if *set == isa => assert_same_bits(&out, bits),
                        _ => {
                            // Sums of k products below 1, which are added in chains of at most 512.
                            let steps = k.min(512) + k / 512 + 2;
                            assert_near(&out, &want, steps as f64 * 2f64.powi(-24) * k as f64);
                            first = Some((isa, out));
                        }
                    }
                });
            }
        }
    }
}
