//! Normalisation by the root mean square.

use super::layer_norm::over_root_mean_square;
use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_inputs,
    expect_shape, result, value,
};
use crate::{Graph, Value};

/// `y = x/√(mean(x²) + ε)·γ`, the mean over the last axis (Zhang and Sennrich 2019): a layer normalisation without
/// mean and bias, as T5 has it.
///
/// Inputs: `x [.., d]`, `weight [d]` (γ). Output: `[.., d]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNorm {
    /// ε.
    pub epsilon: f64,
}

impl FusedOp for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &["x", "weight"])?;
        let dtype = expect_floats(&[("x", inputs[0]), ("weight", inputs[1])])?;
        let d = *inputs[0].shape.last().ok_or("x must have an axis to normalise")?;
        expect_shape("weight", inputs[1], &[d])?;
        Ok(result(inputs[0].shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let normal = over_root_mean_square(graph, inputs[0], self.epsilon);
        value(graph.mul(normal, inputs[1]))
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let op = RmsNormGradient { epsilon: self.epsilon };
        let inputs = [node.inputs[0], node.inputs[1], node.gradients[0]?];
        Some(graph.fused_all(op, &inputs).into_iter().map(Some).collect())
    }
}

/// The gradient of [`RmsNorm`]. With `x̂ = x/√(mean(x²) + ε)` and `g = γ·dy`:
/// `dx = (g − x̂·mean(g·x̂))/√(mean(x²) + ε)`, `dγ = Σ dy·x̂`, the means over the last axis and the sum over all
/// others.
///
/// Inputs: `x [.., d]`, `weight [d]` (γ), `dy [.., d]`. Outputs: `dx`, `dγ`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNormGradient {
    /// ε.
    pub epsilon: f64,
}

impl FusedOp for RmsNormGradient {
    fn name(&self) -> &'static str {
        "rms_norm_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &["x", "weight", "dy"])?;
        let [x, weight, dy] = [0, 1, 2].map(|i| inputs[i]);
        let dtype = expect_floats(&[("x", x), ("weight", weight), ("dy", dy)])?;
        let d = *x.shape.last().ok_or("x must have an axis that was normalised")?;
        expect_shape("weight", weight, &[d])?;
        expect_shape("dy", dy, x.shape)?;
        Ok(Results::from_iter([(x.shape.clone(), dtype), (weight.shape.clone(), dtype)]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let y = RmsNorm { epsilon: self.epsilon }.decompose(graph, &inputs[..2])[0];
        let gradients = graph.differentiate(&[(y, inputs[2])], &inputs[..2], &[]);
        gradients.into_iter().flatten().collect()
    }
}
