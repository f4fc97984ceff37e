//! The squared length of a tensor, for the norm of gradients.

use super::{FusedOp, Operand, Results, Values, expect_floats, expect_inputs, result, value};
use crate::op::ReduceOp;
use crate::{DType, Graph, Shape, Value};

/// `Σ x²` over all elements. Input: `x` of any shape. Output: a scalar, in `F32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumOfSquares;

impl FusedOp for SumOfSquares {
    fn name(&self) -> &'static str {
        "sum_of_squares"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &["x"])?;
        expect_floats(&[("x", inputs[0])])?;
        Ok(result(Shape::default(), DType::F32))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let elements = graph.shape(inputs[0]).elements();
        let x = graph.cast(inputs[0], DType::F32);
        let x = graph.reshape(x, [elements]);
        let squares = graph.mul(x, x);
        let sum = graph.reduce(ReduceOp::Sum, squares, 0);
        value(graph.reshape(sum, Shape::default()))
    }
}
