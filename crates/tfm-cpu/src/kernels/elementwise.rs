//! Element-wise functions on blocks of `f32`.

use tfm_core::op::{BinaryOp, UnaryOp};

use super::math;
use super::simd::{Isa, Kernel, Simd};

/// `x = op(x)`.
pub fn unary(isa: Isa, op: UnaryOp, x: &mut [f32]) {
    isa.run(Unary { op, x });
}

/// `a = op(a, b)`. Panics if the lengths differ.
pub fn binary(isa: Isa, op: BinaryOp, a: &mut [f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    isa.run(Binary { op, a, b });
}

struct Unary<'a> {
    op: UnaryOp,
    x: &'a mut [f32],
}

impl Kernel for Unary<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let x = self.x;
        match self.op {
            UnaryOp::Neg => each(x, |x| -x),
            UnaryOp::Abs => each(x, f32::abs),
            UnaryOp::Exp => vectors(s, x, |x| math::exp(s, x)),
            UnaryOp::Log => each(x, f32::ln),
            UnaryOp::Sqrt => each(x, f32::sqrt),
            UnaryOp::Reciprocal => each(x, |x| 1.0 / x),
            UnaryOp::Sin => each(x, f32::sin),
            UnaryOp::Cos => each(x, f32::cos),
            UnaryOp::Tanh => vectors(s, x, |x| math::tanh(s, x)),
            UnaryOp::Erf => vectors(s, x, |x| math::erf(s, x)),
            UnaryOp::Round => each(x, f32::round_ties_even),
        }
    }
}

#[inline(always)]
fn each(x: &mut [f32], f: impl Fn(f32) -> f32) {
    for x in x {
        *x = f(*x);
    }
}

#[inline(always)]
fn vectors<S: Simd>(s: S, x: &mut [f32], f: impl Fn(S::F) -> S::F) {
    for x in x.chunks_mut(S::LANES) {
        s.store_partial(f(s.load_partial(x)), x);
    }
}

struct Binary<'a> {
    op: BinaryOp,
    a: &'a mut [f32],
    b: &'a [f32],
}

impl Kernel for Binary<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (a, b) = (self.a, self.b);
        match self.op {
            BinaryOp::Add => pairs(a, b, |a, b| a + b),
            BinaryOp::Sub => pairs(a, b, |a, b| a - b),
            BinaryOp::Mul => pairs(a, b, |a, b| a * b),
            BinaryOp::Div => pairs(a, b, |a, b| a / b),
            BinaryOp::Max => pairs(a, b, f32::max),
            BinaryOp::Min => pairs(a, b, f32::min),
            BinaryOp::Less => pairs(a, b, |a, b| if a < b { 1.0 } else { 0.0 }),
            BinaryOp::Equal => pairs(a, b, |a, b| if a == b { 1.0 } else { 0.0 }),
        }
    }
}

#[inline(always)]
fn pairs(a: &mut [f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a = f(*a, b);
    }
}
