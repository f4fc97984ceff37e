//! What follows a product in the same pass, and where its results go.

use std::ops::Range;

use tfm_core::fused::Activation;

use super::activation::activate;
use super::rows::Rows;
use super::simd::Simd;
use super::threads::SharedMut;

/// What is done to a product's element before it is stored: `activation(sum + bias) + residual`.
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
    /// Panics where an operand does not have the shape of a result `[m, n]`.
    pub(super) fn check(&self, m: usize, n: usize) {
        assert!(self.bias.is_none_or(|b| b.len() == n));
        assert!(self.residual.is_none_or(|r| r.rows() == m && r.cols() == n));
    }
}

/// What a panel's sums are multiplied by.
pub(super) trait Scale: Copy {
    /// The sums in these lanes of a panel, scaled.
    fn of<S: Simd>(self, s: S, sums: S::F, lanes: Range<usize>) -> S::F;
}

/// Sums that are results.
impl Scale for () {
    #[inline(always)]
    fn of<S: Simd>(self, _: S, sums: S::F, _: Range<usize>) -> S::F {
        sums
    }
}

/// Sums of integers, with the scale of their row and those of a panel's columns.
impl Scale for (f32, &[f32]) {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, sums: S::F, lanes: Range<usize>) -> S::F {
        s.mul(sums, s.mul(s.splat(self.0), s.load_partial(&self.1[lanes])))
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

/// A result `[m, n]` that tasks write parts of.
#[derive(Clone, Copy)]
pub(super) struct Results<'a> {
    pub(super) epilogue: Epilogue<'a>,
    pub(super) out: &'a SharedMut<'a, f32>,
    /// Elements from row to row.
    pub(super) stride: usize,
    pub(super) n: usize,
    /// How far into the result `out` begins: `row·stride + column` of its first element.
    pub(super) origin: usize,
}

impl Results<'_> {
    /// Asks for the part of the result that a tile will be stored in, and what is added to it.
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

    /// Scales and finishes the sums of a row from `column` on, as far as there are columns, and stores them.
    ///
    /// # Safety
    /// No other task writes these elements.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(
        &self,
        s: S,
        sums: &[f32],
        scale: impl Scale,
        row: usize,
        column: usize,
    ) {
        let columns = column..(column + sums.len()).min(self.n);
        let Epilogue { bias, activation, residual } = self.epilogue;
        let start = row * self.stride;
        let place = start + columns.start - self.origin..start + columns.end - self.origin;
        // SAFETY: the caller's promise.
        let out = unsafe { self.out.slice(place) };
        let bias = bias.map(|b| &b[columns.clone()]);
        let residual = residual.map(|r| &r.row(row)[columns.clone()]);
        for (i, out) in out.chunks_mut(S::LANES).enumerate() {
            let lanes = i * S::LANES..i * S::LANES + out.len();
            let mut y = scale.of(s, s.load_partial(&sums[lanes.clone()]), lanes.clone());
            if let Some(bias) = bias {
                y = s.add(y, s.load_partial(&bias[lanes.clone()]));
            }
            if let Some(activation) = activation {
                y = activate(s, activation, y);
            }
            if let Some(residual) = residual {
                y = s.add(y, s.load_partial(&residual[lanes]));
            }
            s.store_partial(y, out);
        }
    }
}
