//! Softmax and its logarithm.

use super::{FusedOp, Operand, Results, Values, expect_floats, expect_inputs, result, value};
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
}
