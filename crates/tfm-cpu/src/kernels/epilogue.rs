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

/// The factors of sums that are the bits of integers.
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
    /// those that are columns of the result. The sums are `[rows, width]`, packed; with scales they
    /// are the bits of integers.
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
        if width == PANEL_VECTORS * S::LANES && columns.len() == width {
            // The usual activations are constants here, so that their rows are computed without
            // jumps.
            let usual = Some(Activation::Relu);
            // SAFETY: the caller's promise.
            unsafe {
                match (self.epilogue.activation, self.epilogue.residual) {
                    (None, None) => self.store_panel(s, sums, scales, rows, column, (None, None)),
                    (None, r) => self.store_panel(s, sums, scales, rows, column, (None, r)),
                    (a, None) if a == usual => {
                        self.store_panel(s, sums, scales, rows, column, (usual, None));
                    }
                    rest => self.store_panel(s, sums, scales, rows, column, rest),
                }
            }
            return;
        }
        let bias = self.epilogue.bias.map(|b| &b[columns.clone()]);
        for (row, sums) in rows.zip(sums.chunks_exact(width)) {
            // SAFETY: the caller's promise.
            let out = unsafe { self.row(row, columns.clone()) };
            let residual = self.residual(row, columns.clone());
            for (i, out) in out.chunks_mut(S::LANES).enumerate() {
                let lanes = i * S::LANES..i * S::LANES + out.len();
                let mut y = s.load_partial(&sums[lanes.clone()]);
                if let Some(Scales { rows, columns }) = scales {
                    let of_columns = s.load_partial(&columns[lanes.clone()]);
                    y = s.mul(s.of_integers(y), s.mul(s.splat(rows[row]), of_columns));
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

    /// [`store`](Results::store) for a whole panel of columns, with what follows the bias.
    ///
    /// # Safety
    /// As for `store`.
    #[inline(always)]
    unsafe fn store_panel<S: Simd>(
        &self,
        s: S,
        sums: &[f32],
        scales: Option<Scales<'_>>,
        rows: Range<usize>,
        column: usize,
        (activation, residual): (Option<Activation>, Option<Rows<'_>>),
    ) {
        let width = PANEL_VECTORS * S::LANES;
        let Some(last) = rows.clone().last() else { return };
        let mut of_columns = [s.splat(1.0); PANEL_VECTORS];
        if let Some(scales) = scales {
            load(s, &scales.columns[..width], &mut of_columns);
        }
        // Adding −0 changes no number.
        let mut biases = [s.splat(-0.0); PANEL_VECTORS];
        if let Some(bias) = self.epilogue.bias {
            load(s, &bias[column..column + width], &mut biases);
        }
        // What the loop reads and writes is checked here, once for all rows.
        let mut sums = sums[..rows.len() * width].as_ptr();
        let mut of_row = scales.map_or(sums, |scales| scales.rows[rows.clone()].as_ptr());
        let (before, stride) = (last - rows.start, residual.map_or(0, |r| r.stride()));
        let part = residual.map(|r| r.row(last)[column..column + width].as_ptr());
        let mut part = part.unwrap_or(sums).wrapping_sub(before * stride);
        assert!(rows.start * self.stride + column >= self.origin);
        // SAFETY: the caller's promise.
        let out = unsafe { self.row(last, column..column + width) }.as_mut_ptr();
        let mut out = out.wrapping_sub(before * self.stride);
        for _ in rows {
            // SAFETY: all pointers are at the same row, none before the first or behind the last,
            // and have as many elements there as are read or written.
            unsafe {
                for v in 0..PANEL_VECTORS {
                    let at = v * S::LANES;
                    let mut y = s.load_ptr(sums.add(at));
                    if scales.is_some() {
                        y = s.mul(s.of_integers(y), s.mul(s.splat(*of_row), of_columns[v]));
                    }
                    y = s.add(y, biases[v]);
                    if let Some(activation) = activation {
                        y = activate(s, activation, y);
                    }
                    if residual.is_some() {
                        y = s.add(y, s.load_ptr(part.add(at)));
                    }
                    s.store(y, std::slice::from_raw_parts_mut(out.add(at), S::LANES));
                }
            }
            sums = sums.wrapping_add(width);
            of_row = of_row.wrapping_add(1);
            part = part.wrapping_add(stride);
            out = out.wrapping_add(self.stride);
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
