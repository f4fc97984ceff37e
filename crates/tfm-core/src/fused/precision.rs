//! The precision of weights and of products with them.

use super::quantized::{LARGEST, LARGEST_SUM};
use crate::{DType, Expr};

/// The precision of a weight matrix and of the rows it is multiplied with. Sums have the precision
/// of their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// The precision of the operands' type.
    #[default]
    Full,
    /// Both operands are rounded to `BF16`.
    BFloat16,
    /// Each row of both operands is a multiple of its own scale by integers from −127 to 127:
    /// `x ≈ s·q`, `q = round(x/s)`. Sums of products of such integers have no rounding error. The
    /// scale of a row of the inputs is its greatest magnitude over 127. The scale of a row of a
    /// weight may be greater, so that an integer at an even position and the next, if they have one
    /// sign, sum to at most 129 in magnitude. Then processors that add two products of bytes in 16
    /// bits do not saturate (`254·129 < 2¹⁵`, with 127 added to the inputs).
    Int8,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Precision; 3] = [Precision::Full, Precision::BFloat16, Precision::Int8];

    /// Inputs as a product of this precision sees them: `[.., k]`, the rows along the last axis.
    pub fn rounded(self, x: Expr<'_>) -> Expr<'_> {
        match self {
            Precision::Full => x,
            Precision::BFloat16 => shortened(x),
            Precision::Int8 => {
                let largest = x.abs().largest(x.shape().len() - 1);
                quantized(x, largest * (1.0 / f64::from(LARGEST)))
            }
        }
    }

    /// A weight `[n, k]` as a product of this precision sees it.
    pub fn rounded_weight(self, weight: Expr<'_>) -> Expr<'_> {
        match self {
            Precision::Full => weight,
            Precision::BFloat16 => shortened(weight),
            Precision::Int8 => {
                let mut scale = weight.abs().largest(1) * (1.0 / f64::from(LARGEST));
                for sign in [1.0, -1.0] {
                    scale = scale.max(largest_sum(weight, sign) * (1.0 / f64::from(LARGEST_SUM)));
                }
                quantized(weight, scale)
            }
        }
    }
}

/// The greatest sum, over the pairs of an element at an even position of a row and the next, of
/// those of one sign: `[n, 1]`.
fn largest_sum(weight: Expr<'_>, sign: f64) -> Expr<'_> {
    let (n, k) = (weight.shape()[0], weight.shape()[1]);
    let zero = weight.constant(0.0);
    let mut of_sign = (weight * sign).max(zero);
    if k % 2 == 1 {
        of_sign = of_sign.concat(1, &[weight.constant(0.0).broadcast([n, 1])]);
    }
    let pairs = of_sign.reshape([n, k.div_ceil(2), 2]);
    pairs.sum(2).largest(1).reshape([n, 1])
}

/// Rounded to `BF16`, in the same type as before.
fn shortened(x: Expr<'_>) -> Expr<'_> {
    x.cast(DType::BF16).cast(x.dtype())
}

/// The nearest multiples of a scale, 0 where that is 0.
fn quantized<'g>(x: Expr<'g>, scale: Expr<'g>) -> Expr<'g> {
    let is_zero = scale.equal(scale.constant(0.0));
    let scale = is_zero.select(scale.constant(1.0), scale);
    (x / scale).round() * scale
}
