//! The element-wise activation functions.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_shape,
    operands, result, value,
};
use crate::{Graph, Value};

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x·Φ(x) = x/2·(1 + erf(x/√2))` (Hendrycks and Gimpel 2016).
    Gelu,
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, the same paper's approximation.
    GeluTanh,
    /// `x·σ(x) = x/(1 + e⁻ˣ)`, also called SiLU.
    Swish,
    /// `tanh x`.
    Tanh,
}

impl Activation {
    /// Every function.
    pub const ALL: [Activation; 5] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Swish,
        Activation::Tanh,
    ];
}

/// An activation function by itself. Output: in the shape of x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activate(pub Activation);

operands! {
    /// The operand of [`Activate`].
    ActivateOperands<T> of (op: Activate) {
        /// Of any shape.
        x: T,
    }
}

impl FusedOp for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let ActivateOperands { x } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x)])?;
        Ok(result(x.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let ActivateOperands { x } = self.operands(inputs);
        value(match self.0 {
            Activation::Relu => {
                let zero = graph.constant_like(0.0, x);
                graph.max(x, zero)
            }
            Activation::Gelu => {
                let scaled = graph.scale(x, std::f64::consts::FRAC_1_SQRT_2);
                let erf = graph.erf(scaled);
                half_x_times_one_plus(graph, x, erf)
            }
            Activation::GeluTanh => {
                let square = graph.mul(x, x);
                let cube = graph.mul(square, x);
                let correction = graph.scale(cube, 0.044715);
                let sum = graph.add(x, correction);
                let scaled = graph.scale(sum, (2.0 / std::f64::consts::PI).sqrt());
                let tanh = graph.tanh(scaled);
                half_x_times_one_plus(graph, x, tanh)
            }
            Activation::Swish => {
                let negated = graph.neg(x);
                let exp = graph.exp(negated);
                let denominator = graph.shift(exp, 1.0);
                graph.div(x, denominator)
            }
            Activation::Tanh => graph.tanh(x),
        })
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let ActivateOperands { x } = self.operands(node.inputs);
        let operands = ActivateGradientOperands { x, dy: node.gradients[0]? };
        let dx = graph.fused(ActivateGradient(self.0), &operands.list());
        Some(ActivateOperands { x: Some(dx) }.list())
    }
}

/// The gradient of [`Activate`]: `dx = f'(x)·dy`; that of the rectifier is 0 at 0.
///
/// Output: `dx`, in the shape of x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivateGradient(pub Activation);

operands! {
    /// The operands of [`ActivateGradient`].
    ActivateGradientOperands<T> of (op: ActivateGradient) {
        /// Of any shape.
        x: T,
        /// In the shape of x.
        dy: T,
    }
}

impl FusedOp for ActivateGradient {
    fn name(&self) -> &'static str {
        "activate_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let ActivateGradientOperands { x, dy } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x), ("dy", dy)])?;
        expect_shape("dy", dy, x.shape)?;
        Ok(result(x.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let ActivateGradientOperands { x, dy } = self.operands(inputs);
        if self.0 == Activation::Swish {
            return value(swish_gradient(graph, x, dy));
        }
        let y = Activate(self.0).decompose(graph, &[x])[0];
        let gradients = graph.differentiate(&[(y, dy)], &[x], &[]);
        gradients.into_iter().flatten().collect()
    }
}

/// `dx = dy·σ(x)·(1 + x·(1 − σ(x)))`. Unlike the derivative of the quotient, it has no e⁻ˣ that is infinite for
/// an x far below 0 and is multiplied by 0.
fn swish_gradient(graph: &mut Graph, x: Value, dy: Value) -> Value {
    let negated = graph.neg(x);
    let exp = graph.exp(negated);
    let denominator = graph.shift(exp, 1.0);
    let sigmoid = graph.reciprocal(denominator);
    let rest = graph.not(sigmoid);
    let product = graph.mul(x, rest);
    let factor = graph.shift(product, 1.0);
    let slope = graph.mul(sigmoid, factor);
    graph.mul(dy, slope)
}

fn half_x_times_one_plus(graph: &mut Graph, x: Value, inner: Value) -> Value {
    let half = graph.scale(x, 0.5);
    let one_plus = graph.shift(inner, 1.0);
    graph.mul(half, one_plus)
}
