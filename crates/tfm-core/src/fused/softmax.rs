//! Softmax and its logarithm.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_inputs,
    result, value,
};
use crate::op::ReduceOp;
use crate::{Graph, Value};

/// `y_i = exp(x_i − m)/Σ_j exp(x_j − m)` with `m = max_j x_j`, over the last axis; or its logarithm.
///
/// Input and output: `x [.., n]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softmax {
    /// Whether the logarithm is wanted.
    pub log: bool,
}

impl FusedOp for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &["x"])?;
        let dtype = expect_floats(&[("x", inputs[0])])?;
        if inputs[0].shape.is_empty() {
            return Err("x must have an axis".into());
        }
        Ok(result(inputs[0].shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let axis = graph.shape(inputs[0]).len() - 1;
        let max = graph.reduce(ReduceOp::Max, inputs[0], axis);
        let shifted = graph.sub(inputs[0], max);
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
        Some(Gradients::from_iter([Some(dx)]))
    }
}
