//! Small products for use in a kernel. They need no packing and no threads; the rows of their
//! memory are whole vectors.

use super::simd::Simd;

/// Rows of the register tile.
const ROWS: usize = 8;

/// `out[i·out_stride + j] (+)= Σ_p a[i·a_row + p·a_inner]·b[p·b_stride + j]` for `i < m`, `p <
/// k` and `j < n`, where n is a multiple of `S::LANES`. Each element is one chain in the order of
/// p. Panics if a slice is too short.
#[inline(always)]
pub(super) fn product<S: Simd>(
    s: S,
    [m, n, k]: [usize; 3],
    (a, a_row, a_inner): (&[f32], usize, usize),
    (b, b_stride): (&[f32], usize),
    (out, out_stride): (&mut [f32], usize),
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(n % S::LANES == 0 && out.len() >= (m - 1) * out_stride + n);
    assert!(k == 0 || a.len() > (m - 1) * a_row + (k - 1) * a_inner);
    assert!(k == 0 || b.len() >= (k - 1) * b_stride + n);
    for j in (0..n).step_by(S::LANES) {
        for first in (0..m).step_by(ROWS) {
            // Rows that fill up the tile repeat the last one.
            let mut rows = [a.as_ptr(); ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = a.as_ptr().wrapping_add((first + r).min(m - 1) * a_row);
            }
            let mut acc = [s.splat(0.0); ROWS];
            let mut b = b.as_ptr().wrapping_add(j);
            for p in 0..k {
                // SAFETY: p < k and j + LANES ≤ n, so this lies in b, as was asserted.
                let w = unsafe { s.load_ptr(b) };
                b = b.wrapping_add(b_stride);
                for r in 0..ROWS {
                    // SAFETY: the row is below m and p is below k, so this lies in a, as was
                    // asserted.
                    let x = unsafe { *rows[r].wrapping_add(p * a_inner) };
                    acc[r] = s.fma(s.splat(x), w, acc[r]);
                }
            }
            for r in 0..ROWS {
                if first + r < m {
                    let out = &mut out[(first + r) * out_stride + j..][..S::LANES];
                    let y = if accumulate { s.add(s.load(out), acc[r]) } else { acc[r] };
                    s.store(y, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::{Isa, Kernel};
    use crate::kernels::testing::{assert_near, noise};

    struct Apply<'a>([usize; 3], &'a [f32], [usize; 2], &'a [f32], &'a mut [f32], bool);
    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let Apply([m, n, k], a, [row, inner], b, out, accumulate) = self;
            product(s, [m, n, k], (a, row, inner), (b, n), (out, n + 1), accumulate);
        }
    }

    #[test]
    fn equals_the_f64_product_of_either_order() {
        for [m, n, k] in [[1, 16, 1], [5, 32, 7], [8, 16, 0], [19, 48, 30]] {
            let (a, b, start) = (noise(1, m * k), noise(2, k * n), noise(3, m * (n + 1)));
            for by_rows in [true, false] {
                let strides = if by_rows { [k, 1] } else { [1, m] };
                for accumulate in [true, false] {
                    let mut want: Vec<f64> = start.iter().map(|&x| x.into()).collect();
                    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        let sum: f64 = (0..k)
                            .map(|p| {
                                a[i * strides[0] + p * strides[1]] as f64 * b[p * n + j] as f64
                            })
                            .sum();
                        let old = if accumulate { want[i * (n + 1) + j] } else { 0.0 };
                        want[i * (n + 1) + j] = old + sum;
                    }
                    for isa in Isa::available() {
                        let mut out = start.clone();
                        isa.run(Apply([m, n, k], &a, strides, &b, &mut out, accumulate));
                        assert_near(&out, &want, 1e-5);
                    }
                }
            }
        }
    }
}
