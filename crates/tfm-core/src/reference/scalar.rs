//! The arithmetic of the reference backend, which is generic over it: plain `f64`, and the
//! intervals of [`crate::testing`] that bound every rounding error.

use crate::op::{BinaryOp, UnaryOp};
use crate::{DType, Shape, Tensor, TensorData};
use std::fmt::Debug;

/// A number as the reference backend computes with it. `dtype` is the float type that the graph
/// declares for the result; arithmetic that models rounding rounds to it.
pub trait Scalar: Copy + Debug + Send + Sync + 'static {
    /// A name of the arithmetic.
    const NAME: &'static str;

    /// This number exactly.
    fn exact(value: f64) -> Self;

    /// The number without its bounds.
    fn value(self) -> f64;

    /// `op(self)`.
    fn unary(self, op: UnaryOp, dtype: DType) -> Self;

    /// `op(self, other)`.
    fn binary(self, op: BinaryOp, other: Self, dtype: DType) -> Self;

    /// This number in another float type.
    fn round(self, dtype: DType) -> Self;

    /// `self ≠ 0 ? a : b`.
    fn choose(self, a: Self, b: Self) -> Self;

    /// Σ terms; 0 if there are none.
    fn sum(terms: &[Self], dtype: DType) -> Self;

    /// Σ aᵢ·bᵢ.
    fn dot(a: &[Self], b: &[Self], dtype: DType) -> Self;

    /// The largest; −∞ if there are none.
    fn max(terms: &[Self]) -> Self;

    /// The numbers sorted from the largest to the smallest, as far as the arithmetic can tell.
    fn descending(terms: &[Self]) -> Vec<Self>;

    /// The tensor that [`crate::Backend::download`] returns.
    fn export(values: &[Self], dtype: DType, shape: &Shape) -> Tensor;
}

/// The function of `op`, in `f64`.
pub fn unary_f64(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Reciprocal => x.recip(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Erf => libm::erf(x),
        UnaryOp::Round => x.round_ties_even(),
    }
}

/// The function of `op`, in `f64`.
pub fn binary_f64(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Max => a.max(b),
        BinaryOp::Min => a.min(b),
        BinaryOp::Less => f64::from(a < b),
        BinaryOp::Equal => f64::from(a == b),
    }
}

/// The elements in the host's type of `dtype`, each rounded once.
pub fn tensor_from_f64(values: impl Iterator<Item = f64>, dtype: DType, shape: &Shape) -> Tensor {
    let data = match dtype {
        DType::F32 => TensorData::F32(values.map(|x| x as f32).collect()),
        DType::F16 => TensorData::F16(values.map(crate::f16_from_f64).collect()),
        DType::BF16 => TensorData::BF16(values.map(crate::bf16_from_f64).collect()),
        DType::I32 => TensorData::I32(values.map(|x| x as i32).collect()),
    };
    Tensor::new(shape.clone(), data).expect("one value an element")
}

impl Scalar for f64 {
    const NAME: &'static str = "reference (f64)";

    fn exact(value: f64) -> f64 {
        value
    }
    fn value(self) -> f64 {
        self
    }
    fn unary(self, op: UnaryOp, _: DType) -> f64 {
        unary_f64(op, self)
    }
    fn binary(self, op: BinaryOp, other: f64, _: DType) -> f64 {
        binary_f64(op, self, other)
    }
    fn round(self, _: DType) -> f64 {
        self
    }
    fn choose(self, a: f64, b: f64) -> f64 {
        if self != 0.0 { a } else { b }
    }
    fn sum(terms: &[f64], _: DType) -> f64 {
        terms.iter().sum()
    }
    fn dot(a: &[f64], b: &[f64], _: DType) -> f64 {
        // Eight running sums, which the compiler keeps in vector registers.
        let mut sums = [0.0; 8];
        let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
        let rest: f64 =
            a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
        for (a, b) in a_chunks.zip(b_chunks) {
            for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum += a * b;
            }
        }
        sums.iter().sum::<f64>() + rest
    }
    fn max(terms: &[f64]) -> f64 {
        terms.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
    fn descending(terms: &[f64]) -> Vec<f64> {
        let mut sorted = terms.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted
    }
    fn export(values: &[f64], dtype: DType, shape: &Shape) -> Tensor {
        tensor_from_f64(values.iter().copied(), dtype, shape)
    }
}
