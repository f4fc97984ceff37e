//! The squared length of a tensor, for the norm of gradients.

use super::{FusedOp, Operand, Results, Values, expect_floats, operands, result, value};
use crate::{DType, Graph, Shape, Value};

/// `Σ x²` over all elements. Output: a scalar, in `F32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumOfSquares;

operands! {
    /// The operand of [`SumOfSquares`].
    SumOfSquaresOperands<T> of (op: SumOfSquares) {
        /// Of any shape.
        x: T,
    }
}

impl FusedOp for SumOfSquares {
    fn name(&self) -> &'static str {
        "sum_of_squares"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let SumOfSquaresOperands { x } = self.expect(inputs)?;
        expect_floats(&[("x", x)])?;
        Ok(result(Shape::default(), DType::F32))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let g = graph.equations();
        let x = g.of(self.operands(inputs).x);
        let x = x.cast(DType::F32).reshape([x.shape().elements()]);
        value((x * x).sum(0).reshape(Shape::default()).value())
    }
}
