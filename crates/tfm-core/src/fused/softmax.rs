//! Softmax and its logarithm.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, operands, result,
    value,
};
use crate::{Graph, Value};

/// `y_i = exp(x_i − m)/Σ_j exp(x_j − m)` with `m = max_j x_j`, over the last axis; or its
/// logarithm.
///
/// Output: `[.., n]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softmax {
    /// Whether the logarithm is wanted.
    pub log: bool,
}

operands! {
    /// The operand of [`Softmax`].
    SoftmaxOperands<T> of (op: Softmax) {
        /// `[.., n]`.
        x: T,
    }
}

impl FusedOp for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let SoftmaxOperands { x } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x)])?;
        if x.shape.is_empty() {
            return Err("x must have an axis".into());
        }
        Ok(result(x.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let g = graph.equations();
        let x = g.of(self.operands(inputs).x);
        let axis = x.shape().len() - 1;
        let shifted = x - x.largest(axis);
        let exp = shifted.exp();
        let sum = exp.sum(axis);
        let y = if self.log { shifted - sum.log() } else { exp / sum };
        value(y.value())
    }

    /// `dx = y·(dy − Σ y·dy)`; of the logarithm `dx = dy − softmax(x)·Σ dy`.
    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let dy = node.gradients[0]?;
        let g = graph.equations();
        let (y, dy) = (g.of(node.outputs[0]), g.of(dy));
        let axis = y.shape().len() - 1;
        let dx = if self.log {
            let sum = dy.sum(axis);
            dy - y.exp() * sum
        } else {
            y * (dy - (y * dy).sum(axis))
        };
        Some(SoftmaxOperands { x: Some(dx.value()) }.list())
    }
}
