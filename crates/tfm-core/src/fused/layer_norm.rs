//! Layer normalisation.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_shape,
    operands, result, value,
};
use crate::{Expr, Graph, Value};

/// `y = (x − μ)/√(σ² + ε)·γ + β`, with mean μ and (biased) variance σ² over the last axis
/// (Ba, Kiros, Hinton 2016).
///
/// Output: `[.., d]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// ε.
    pub epsilon: f64,
}

operands! {
    /// The operands of [`LayerNorm`].
    LayerNormOperands<T> of (op: LayerNorm) {
        /// `[.., d]`.
        x: T,
        /// γ: `[d]`.
        weight: T,
        /// β: `[d]`.
        bias: T,
    }
}

impl FusedOp for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let LayerNormOperands { x, weight, bias } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x), ("weight", weight), ("bias", bias)])?;
        let d = *x.shape.last().ok_or("x must have an axis to normalise")?;
        expect_shape("weight", weight, &[d])?;
        expect_shape("bias", bias, &[d])?;
        Ok(result(x.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let g = graph.equations();
        let LayerNormOperands { x, weight, bias } = self.operands(inputs);
        let [x, weight, bias] = [x, weight, bias].map(|operand| g.of(operand));
        let centred = x - x.mean(x.shape().len() - 1);
        let y = over_root_mean_square(centred, self.epsilon) * weight + bias;
        value(y.value())
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let op = LayerNormGradient { epsilon: self.epsilon };
        let LayerNormOperands { x, weight, .. } = self.operands(node.inputs);
        let operands = LayerNormGradientOperands { x, weight, dy: node.gradients[0]? };
        Some(graph.fused_all(op, &operands.list()).into_iter().map(Some).collect())
    }
}

/// `x/√(mean(x²) + ε)`, the mean over the last axis.
pub(super) fn over_root_mean_square(x: Expr<'_>, epsilon: f64) -> Expr<'_> {
    x / ((x * x).mean(x.shape().len() - 1) + epsilon).sqrt()
}

/// The gradient of [`LayerNorm`]. With `x̂ = (x − μ)/√(σ² + ε)` and `g = γ·dy`:
/// `dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + ε)`, `dγ = Σ dy·x̂`, `dβ = Σ dy`, the means over the
/// last axis and the sums over all others.
///
/// Outputs: `dx`, `dγ`, `dβ`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNormGradient {
    /// ε.
    pub epsilon: f64,
}

operands! {
    /// The operands of [`LayerNormGradient`].
    LayerNormGradientOperands<T> of (op: LayerNormGradient) {
        /// `[.., d]`.
        x: T,
        /// γ: `[d]`.
        weight: T,
        /// `[.., d]`.
        dy: T,
    }
}

impl FusedOp for LayerNormGradient {
    fn name(&self) -> &'static str {
        "layer_norm_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let LayerNormGradientOperands { x, weight, dy } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x), ("weight", weight), ("dy", dy)])?;
        let d = *x.shape.last().ok_or("x must have an axis that was normalised")?;
        expect_shape("weight", weight, &[d])?;
        expect_shape("dy", dy, x.shape)?;
        let row = (weight.shape.clone(), dtype);
        Ok(Results::from_iter([(x.shape.clone(), dtype), row.clone(), row]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let LayerNormGradientOperands { x, weight, dy } = self.operands(inputs);
        let bias = graph.filled_like(0.0, weight);
        let operands = LayerNormOperands { x, weight, bias }.list();
        let y = LayerNorm { epsilon: self.epsilon }.decompose(graph, &operands)[0];
        let gradients = graph.differentiate(&[(y, dy)], &operands, &[]);
        gradients.into_iter().flatten().collect()
    }
}
