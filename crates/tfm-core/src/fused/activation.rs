//! The element-wise activation functions.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_shape,
    operands, result, value,
};
use crate::{Expr, Graph, Value};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

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
        let g = graph.equations();
        let x = g.of(self.operands(inputs).x);
        let y = match self.0 {
            Activation::Relu => x.max(x.constant(0.0)),
            Activation::Gelu => half_x_times_one_plus(x, (x * FRAC_1_SQRT_2).erf()),
            Activation::GeluTanh => {
                let inner = (x + x * x * x * 0.044715) * (2.0 / PI).sqrt();
                half_x_times_one_plus(x, inner.tanh())
            }
            Activation::Swish => x / ((-x).exp() + 1.0),
            Activation::Tanh => x.tanh(),
        };
        value(y.value())
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

/// `dx = dy·σ(x)·(1 + x·(1 − σ(x)))`. Unlike the derivative of the quotient, it has no e⁻ˣ that is
/// infinite for an x far below 0 and is multiplied by 0.
fn swish_gradient(graph: &mut Graph, x: Value, dy: Value) -> Value {
    let g = graph.equations();
    let (x, dy) = (g.of(x), g.of(dy));
    let sigmoid = ((-x).exp() + 1.0).reciprocal();
    let dx = dy * (sigmoid * (x * (1.0 - sigmoid) + 1.0));
    dx.value()
}

fn half_x_times_one_plus<'g>(x: Expr<'g>, inner: Expr<'g>) -> Expr<'g> {
    x * 0.5 * (inner + 1.0)
}
