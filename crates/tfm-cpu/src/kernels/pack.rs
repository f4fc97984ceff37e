//! A linear layer's weight, stored once in the order in which the product reads it.

use std::collections::TryReserveError;

use super::aligned::Aligned;
use super::simd::Isa;

/// Vectors in the width of a panel.
pub const PANEL_VECTORS: usize = 2;

/// `W [n, k]` as panels of `2·lanes` output columns: `[⌈n / width⌉, k, width]`, so that the product reads it
/// from front to back. The columns that the last panel has too many are zero.
#[derive(Debug)]
pub struct PackedWeight {
    isa: Isa,
    n: usize,
    k: usize,
    width: usize,
    data: Aligned<f32>,
}

impl PackedWeight {
    /// Packs the matrix whose element (output column `j`, input `p`) is
    /// `weight[j·column_stride + p·input_stride]`, for products on `isa`.
    ///
    /// # Errors
    /// There is no memory for the panels.
    pub fn new(
        isa: Isa,
        weight: &[f32],
        (n, k): (usize, usize),
        (column_stride, input_stride): (usize, usize),
    ) -> Result<PackedWeight, TryReserveError> {
        let width = PANEL_VECTORS * isa.lanes();
        let mut data = Aligned::new(n.div_ceil(width) * width * k)?;
        if k > 0 {
            for (first, panel) in (0..n).step_by(width).zip(data.chunks_mut(width * k)) {
                for j in 0..width.min(n - first) {
                    let column = &weight[(first + j) * column_stride..];
                    for p in 0..k {
                        panel[p * width + j] = column[p * input_stride];
                    }
                }
            }
        }
        Ok(PackedWeight { isa, n, k, width, data })
    }

    /// The instruction set that the panels are made for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of output columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Output columns of a panel.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of panels.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    /// The panels from `i` on: each is `[k, width]`.
    pub fn panel(&self, i: usize) -> &[f32] {
        &self.data[i * self.k * self.width..]
    }
}
