//! Layer normalisation.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_inputs,
    expect_shape, result, value,
};
use crate::op::ReduceOp;
use crate::{Graph, Value};

/// `y = (x − μ)/√(σ² + ε)·γ + β`, with mean μ and (biased) variance σ² over the last axis
/// (Ba, Kiros, Hinton 2016).
///
/// Inputs: `x [.., d]`, `weight [d]` (γ), `bias [d]` (β). Output: `[.., d]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// ε.
    pub epsilon: f64,
}

impl FusedOp for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &["x", "weight", "bias"])?;
        let dtype = expect_floats(&[("x", inputs[0]), ("weight", inputs[1]), ("bias", inputs[2])])?;
        let d = *inputs[0].shape.last().ok_or("x must have an axis to normalise")?;
        expect_shape("weight", inputs[1], &[d])?;
        expect_shape("bias", inputs[2], &[d])?;
        Ok(result(inputs[0].shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let axis = graph.shape(inputs[0]).len() - 1;
        let per_element = 1.0 / graph.shape(inputs[0])[axis] as f64;
        let sum = graph.reduce(ReduceOp::Sum, inputs[0], axis);
        let mean = graph.scale(sum, per_element);
        let centred = graph.sub(inputs[0], mean);
        let normal = over_root_mean_square(graph, centred, self.epsilon);
        let scaled = graph.mul(normal, inputs[1]);
        value(graph.add(scaled, inputs[2]))
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let op = LayerNormGradient { epsilon: self.epsilon };
        let inputs = [node.inputs[0], node.inputs[1], node.gradients[0]?];
        Some(graph.fused_all(op, &inputs).into_iter().map(Some).collect())
    }
}

/// `x/√(mean(x²) + ε)`, the mean over the last axis.
pub(super) fn over_root_mean_square(graph: &mut Graph, x: Value, epsilon: f64) -> Value {
    let axis = graph.shape(x).len() - 1;
    let per_element = 1.0 / graph.shape(x)[axis] as f64;
    let squares = graph.mul(x, x);
    let sum = graph.reduce(ReduceOp::Sum, squares, axis);
    let mean = graph.scale(sum, per_element);
    let shifted = graph.shift(mean, epsilon);
    let root = graph.sqrt(shifted);
    graph.div(x, root)
}

/// The gradient of [`LayerNorm`]. With `x̂ = (x − μ)/√(σ² + ε)` and `g = γ·dy`:
/// `dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + ε)`, `dγ = Σ dy·x̂`, `dβ = Σ dy`, the means over the last axis and
/// the sums over all others.
///
/// Inputs: `x [.., d]`, `weight [d]` (γ), `dy [.., d]`. Outputs: `dx`, `dγ`, `dβ`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNormGradient {
    /// ε.
    pub epsilon: f64,
}

impl FusedOp for LayerNormGradient {
    fn name(&self) -> &'static str {
        "layer_norm_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &["x", "weight", "dy"])?;
        let [x, weight, dy] = [0, 1, 2].map(|i| inputs[i]);
        let dtype = expect_floats(&[("x", x), ("weight", weight), ("dy", dy)])?;
        let d = *x.shape.last().ok_or("x must have an axis that was normalised")?;
        expect_shape("weight", weight, &[d])?;
        expect_shape("dy", dy, x.shape)?;
        let row = (weight.shape.clone(), dtype);
        Ok(Results::from_iter([(x.shape.clone(), dtype), row.clone(), row]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let bias = graph.filled_like(0.0, inputs[1]);
        let operands = [inputs[0], inputs[1], bias];
        let y = LayerNorm { epsilon: self.epsilon }.decompose(graph, &operands)[0];
        let gradients = graph.differentiate(&[(y, inputs[2])], &operands, &[]);
        gradients.into_iter().flatten().collect()
    }
}
