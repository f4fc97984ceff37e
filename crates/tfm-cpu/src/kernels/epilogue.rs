//! What follows a product in the same pass, and the storing of its results.

use std::ops::Range;

use tfm_core::fused::Activation;

use super::activation::activate;
use super::pack::PANEL_VECTORS;
use super::rows::Rows;
use super::simd::Simd;
use super::threads::SharedMut;

/// What follows each element of a product before it is stored: `activation(sum + bias) + residual`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[n]`
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// `[m, n]`, added last.
    pub residual: Option<Rows<'a>>,
}

impl Epilogue<'_> {
    /// Panics if an operand does not have the shape of a result `[m, n]`.
    pub(super) fn check(&self, m: usize, n: usize) {
        assert!(self.bias.is_none_or(|b| b.len() == n));
        assert!(self.residual.is_none_or(|r| r.rows() == m && r.cols() == n));
    }
}

/// The factors of sums of integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales<'a> {
    /// `[m]`
    pub(super) rows: &'a [f32],
    /// The factors of the panel's columns, as many as its width.
    pub(super) columns: &'a [f32],
}

/// Elements of a cache line.
const LINE: usize = 16;

/// A result `[m, n]` of which tasks write parts.
#[derive(Clone, Copy)]
pub(super) struct Results<'a> {
    pub(super) epilogue: Epilogue<'a>,
    pub(super) out: &'a SharedMut<'a, f32>,
    /// Elements from one row to the next.
    pub(super) stride: usize,
    pub(super) n: usize,
    /// The place in the result at which `out` begins: `row·stride + column` of its first element.
    pub(super) origin: usize,
}

impl Results<'_> {
    /// Prefetches the part of the result that a tile will be stored in, and the residual that is
    /// added.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd>(&self, s: S, rows: Range<usize>, column: usize, width: usize) {
        for row in rows {
            let start = self.out.pointer().wrapping_add(row * self.stride + column - self.origin);
            let residual = self.epilogue.residual.map(|r| r.row(row).as_ptr());
            for at in (0..width).step_by(LINE) {
                s.prefetch(start.wrapping_add(at));
                if let Some(residual) = residual {
                    s.prefetch(residual.wrapping_add(column + at));
                }
            }
        }
    }

    /// Finishes the sums of these rows and of the panel of columns from `column` on, and stores
    /// those that are columns of the result. The sums are `[rows, width]`, packed.
    ///
    /// # Safety
    /// No other task writes these elements.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(
        &self,
        s: S,
        sums: &[f32],
        scales: Option<Scales<'_>>,
        rows: Range<usize>,
        (column, width): (usize, usize),
    ) {
        let columns = column..(column + width).min(self.n);
        let bias = self.epilogue.bias.map(|b| &b[columns.clone()]);
        // In the usual case the lengths are constants here, so that no access is checked.
        let whole = PANEL_VECTORS * S::LANES;
        if width == whole && columns.len() == whole {
            let mut of_columns = [s.splat(1.0); PANEL_VECTORS];
            if let Some(scales) = scales {
                load(s, &scales.columns[..whole], &mut of_columns);
            }
            let mut biases = [s.splat(0.0); PANEL_VECTORS];
            if let Some(bias) = bias {
                load(s, &bias[..whole], &mut biases);
            }
            for (row, sums) in rows.zip(sums.chunks_exact(whole)) {
                // SAFETY: the caller's promise.
                let out = unsafe { self.row(row, columns.clone()) };
                let residual = self.residual(row, columns.clone());
                let mut y = [s.splat(0.0); PANEL_VECTORS];
                load(s, sums, &mut y);
                if let Some(scales) = scales {
                    let of_row = s.splat(scales.rows[row]);
                    for (y, of_column) in y.iter_mut().zip(of_columns) {
                        *y = s.mul(*y, s.mul(of_row, of_column));
                    }
                }
                if bias.is_some() {
                    for (y, bias) in y.iter_mut().zip(biases) {
                        *y = s.add(*y, bias);
                    }
                }
                if let Some(activation) = self.epilogue.activation {
                    for y in &mut y {
                        *y = activate(s, activation, *y);
                    }
                }
                if let Some(residual) = residual {
                    let residual = residual[..whole].chunks_exact(S::LANES);
                    for (y, residual) in y.iter_mut().zip(residual) {
                        *y = s.add(*y, s.load(residual));
                    }
                }
                for (y, out) in y.into_iter().zip(out[..whole].chunks_exact_mut(S::LANES)) {
                    s.store(y, out);
                }
            }
            return;
        }
        for (row, sums) in rows.zip(sums.chunks_exact(width)) {
            // SAFETY: the caller's promise.
            let out = unsafe { self.row(row, columns.clone()) };
            let residual = self.residual(row, columns.clone());
            for (i, out) in out.chunks_mut(S::LANES).enumerate() {
                let lanes = i * S::LANES..i * S::LANES + out.len();
                let mut y = s.load_partial(&sums[lanes.clone()]);
                if let Some(Scales { rows, columns }) = scales {
                    let of_columns = s.load_partial(&columns[lanes.clone()]);
                    y = s.mul(y, s.mul(s.splat(rows[row]), of_columns));
                }
                if let Some(bias) = bias {
                    y = s.add(y, s.load_partial(&bias[lanes.clone()]));
                }
                if let Some(activation) = self.epilogue.activation {
                    y = activate(s, activation, y);
                }
                if let Some(residual) = residual {
                    y = s.add(y, s.load_partial(&residual[lanes]));
                }
                s.store_partial(y, out);
            }
        }
    }

    /// A part of a row of the result.
    ///
    /// # Safety
    /// No other task writes these elements.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "as SharedMut::slice, and as unsafe")]
    unsafe fn row(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        let start = row * self.stride + columns.start - self.origin;
        // SAFETY: the caller's promise.
        unsafe { self.out.slice(start..start + columns.len()) }
    }

    /// A part of a row of the residual.
    #[inline(always)]
    fn residual(&self, row: usize, columns: Range<usize>) -> Option<&[f32]> {
        self.epilogue.residual.map(|residual| &residual.row(row)[columns])
    }
}

/// The whole vectors of `x`. Panics if there are too few.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32], vectors: &mut [S::F]) {
    for (vector, x) in vectors.iter_mut().zip(x.chunks_exact(S::LANES)) {
        *vector = s.load(x);
    }
}
