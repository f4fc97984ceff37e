//! Softmax and its logarithm.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, operands, result,
    value,
};
use crate::op::ReduceOp;
use crate::{Graph, Value};

/// `y_i = exp(x_i − m)/Σ_j exp(x_j − m)` with `m = max_j x_j`, over the last axis; or its logarithm.
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
        let SoftmaxOperands { x } = self.operands(inputs);
        let axis = graph.shape(x).len() - 1;
        let max = graph.reduce(ReduceOp::Max, x, axis);
        let shifted = graph.sub(x, max);
        let exp = graph.exp(shifted);
        let sum = graph.reduce(ReduceOp::Sum, exp, axis);
        value(if self.log {
            let log_sum = graph.log(sum);
            graph.sub(shifted, log_sum)
        } else {
            graph.div(exp, sum)
        })
    }

    /// `dx = y·(dy − Σ y·dy)`; of the logarithm `dx = dy − softmax(x)·Σ dy`.
    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let (y, dy) = (node.outputs[0], node.gradients[0]?);
        let axis = graph.shape(y).len() - 1;
        let dx = if self.log {
            let sum = graph.reduce(ReduceOp::Sum, dy, axis);
            let softmax = graph.exp(y);
            let product = graph.mul(softmax, sum);
            graph.sub(dy, product)
        } else {
            let products = graph.mul(y, dy);
            let sum = graph.reduce(ReduceOp::Sum, products, axis);
            let centred = graph.sub(dy, sum);
            graph.mul(y, centred)
        };
        Some(SoftmaxOperands { x: Some(dx) }.list())
    }
}
