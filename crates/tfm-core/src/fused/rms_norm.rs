//! Normalisation by the root mean square.

use super::layer_norm::over_root_mean_square;
use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_shape,
    operands, result, value,
};
use crate::{Graph, Value};

/// `y = x/√(mean(x²) + ε)·γ`, the mean over the last axis (Zhang and Sennrich 2019): a layer
/// normalisation without mean and bias, as T5 has it.
///
/// Output: `[.., d]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNorm {
    /// ε.
    pub epsilon: f64,
}

operands! {
    /// The operands of [`RmsNorm`].
    RmsNormOperands<T> of (op: RmsNorm) {
        /// `[.., d]`.
        x: T,
        /// γ: `[d]`.
        weight: T,
    }
}

impl FusedOp for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let RmsNormOperands { x, weight } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x), ("weight", weight)])?;
        let d = *x.shape.last().ok_or("x must have an axis to normalise")?;
        expect_shape("weight", weight, &[d])?;
        Ok(result(x.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let g = graph.equations();
        let RmsNormOperands { x, weight } = self.operands(inputs);
        let y = over_root_mean_square(g.of(x), self.epsilon) * g.of(weight);
        value(y.value())
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let op = RmsNormGradient { epsilon: self.epsilon };
        let RmsNormOperands { x, weight } = self.operands(node.inputs);
        let operands = RmsNormGradientOperands { x, weight, dy: node.gradients[0]? };
        Some(graph.fused_all(op, &operands.list()).into_iter().map(Some).collect())
    }
}

/// The gradient of [`RmsNorm`]. With `x̂ = x/√(mean(x²) + ε)` and `g = γ·dy`:
/// `dx = (g − x̂·mean(g·x̂))/√(mean(x²) + ε)`, `dγ = Σ dy·x̂`, the means over the last axis and the
/// sum over all others.
///
/// Outputs: `dx`, `dγ`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNormGradient {
    /// ε.
    pub epsilon: f64,
}

operands! {
    /// The operands of [`RmsNormGradient`].
    RmsNormGradientOperands<T> of (op: RmsNormGradient) {
        /// `[.., d]`.
        x: T,
        /// γ: `[d]`.
        weight: T,
        /// `[.., d]`.
        dy: T,
    }
}

impl FusedOp for RmsNormGradient {
    fn name(&self) -> &'static str {
        "rms_norm_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let RmsNormGradientOperands { x, weight, dy } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x), ("weight", weight), ("dy", dy)])?;
        let d = *x.shape.last().ok_or("x must have an axis that was normalised")?;
        expect_shape("weight", weight, &[d])?;
        expect_shape("dy", dy, x.shape)?;
        Ok(Results::from_iter([(x.shape.clone(), dtype), (weight.shape.clone(), dtype)]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let RmsNormGradientOperands { x, weight, dy } = self.operands(inputs);
        let operands = RmsNormOperands { x, weight }.list();
        let y = RmsNorm { epsilon: self.epsilon }.decompose(graph, &operands)[0];
        let gradients = graph.differentiate(&[(y, dy)], &operands, &[]);
        gradients.into_iter().flatten().collect()
    }
}
