//! How much of a weight is kept, and what products with it are computed from.

use super::quantized::{LARGEST, LARGEST_SUM};
use crate::op::ReduceOp;
use crate::{DType, Graph, Value};

/// The precision of a weight matrix and of the rows it is multiplied with. Sums have the precision of their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// That of the operands' type.
    #[default]
    Full,
    /// Both operands are rounded to `BF16`.
    BFloat16,
    /// Each row of both operands is a multiple of its own scale by integers from −127 to 127: `x ≈ s·q`,
    /// `q = round(x/s)`. Sums of products of such integers have no rounding error. The scale of a row of the inputs is its
    /// greatest magnitude over 127. That of a row of a weight may be greater: numbers of one sign at an even place
    /// and the next sum to at most 129, so that processors that add two products of bytes in 16 bits
    /// (`254·129 < 2¹⁵`, the inputs with 127 added) do so without saturating.
    Int8,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Precision; 3] = [Precision::Full, Precision::BFloat16, Precision::Int8];

    /// Inputs as a product of this precision sees them: `[.., k]`, the rows along the last axis.
    pub fn rounded(self, graph: &mut Graph, x: Value) -> Value {
        match self {
            Precision::Full => x,
            Precision::BFloat16 => shortened(graph, x),
            Precision::Int8 => {
                let axis = graph.shape(x).len() - 1;
                let magnitude = graph.abs(x);
                let largest = graph.reduce(ReduceOp::Max, magnitude, axis);
                let scale = graph.scale(largest, 1.0 / f64::from(LARGEST));
                quantized(graph, x, scale)
            }
        }
    }

    /// A weight `[n, k]` as a product of this precision sees it.
    pub fn rounded_weight(self, graph: &mut Graph, weight: Value) -> Value {
        match self {
            Precision::Full => weight,
            Precision::BFloat16 => shortened(graph, weight),
            Precision::Int8 => {
                let magnitude = graph.abs(weight);
                let largest = graph.reduce(ReduceOp::Max, magnitude, 1);
                let mut scale = graph.scale(largest, 1.0 / f64::from(LARGEST));
                for sign in [1.0, -1.0] {
                    let sum = largest_sum(graph, weight, sign);
                    let sum = graph.scale(sum, 1.0 / f64::from(LARGEST_SUM));
                    scale = graph.max(scale, sum);
                }
                quantized(graph, weight, scale)
            }
        }
    }
}

/// The greatest sum of the elements of a sign at an even place of a row and the next: `[n, 1]`.
fn largest_sum(graph: &mut Graph, weight: Value, sign: f64) -> Value {
    let (n, k) = (graph.shape(weight)[0], graph.shape(weight)[1]);
    let zero = graph.constant_like(0.0, weight);
    let signed = graph.scale(weight, sign);
    let mut of_sign = graph.max(signed, zero);
    if k % 2 == 1 {
        let none = graph.constant(0.0, graph.dtype(weight));
        let none = graph.broadcast(none, [n, 1]);
        of_sign = graph.concat(1, &[of_sign, none]);
    }
    let pairs = graph.reshape(of_sign, [n, k.div_ceil(2), 2]);
    let sums = graph.reduce(ReduceOp::Sum, pairs, 2);
    let largest = graph.reduce(ReduceOp::Max, sums, 1);
    graph.reshape(largest, [n, 1])
}

/// Rounded to `BF16`, in the same type as before.
fn shortened(graph: &mut Graph, x: Value) -> Value {
    let dtype = graph.dtype(x);
    let short = graph.cast(x, DType::BF16);
    graph.cast(short, dtype)
}

/// The nearest multiples of a scale, 0 where that is 0.
fn quantized(graph: &mut Graph, x: Value, scale: Value) -> Value {
    let zero = graph.constant_like(0.0, scale);
    let is_zero = graph.equal(scale, zero);
    let one = graph.constant_like(1.0, scale);
    let scale = graph.select(is_zero, one, scale);
    let quotient = graph.div(x, scale);
    let integer = graph.round(quotient);
    graph.mul(integer, scale)
}
