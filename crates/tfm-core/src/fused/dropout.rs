//! Dropout, and the mask that it shares with attention.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_integers,
    expect_shape, operands, result, value,
};
use crate::{DType, Graph, Shape, Value};

/// Which elements are dropped: those whose uniform number is below the rate. The others are divided
/// by 1 − rate, so that the expectation stays the same (inverted dropout; Srivastava et al. 2014).
///
/// The numbers come from [`crate::philox`], by seed, step, stream and position: the mask is the
/// same on every backend, and the backward pass draws it again instead of keeping it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutMask {
    /// The share of elements that is dropped, at least 0 and below 1.
    pub rate: f32,
    /// The number of the draw within a step.
    pub stream: u32,
}

impl DropoutMask {
    /// Checks that the rate is in [0, 1).
    pub(super) fn check(&self) -> Result<(), String> {
        if (0.0..1.0).contains(&self.rate) {
            return Ok(());
        }
        Err(format!("a rate of {} is not in [0, 1)", self.rate))
    }

    /// `mask·x/(1 − rate)`.
    pub(super) fn apply(&self, graph: &mut Graph, x: Value, key: Value) -> Value {
        let shape = graph.shape(x).clone();
        let uniform = graph.random(key, self.stream, shape);
        let g = graph.equations();
        let (x, uniform) = (g.of(x), g.of(uniform));
        let dropped = uniform.less(g.constant(f64::from(self.rate), DType::F32));
        let scaled = x * self.scale();
        dropped.select(x.constant(0.0), scaled).value()
    }

    /// 1/(1 − rate).
    pub fn scale(&self) -> f64 {
        f64::from(1.0 / (1.0 - self.rate))
    }
}

/// `y = mask·x/(1 − rate)`, plus a residual where there is one.
///
/// Output: in the shape of x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// What is dropped.
    pub mask: DropoutMask,
    /// Whether a residual is added.
    pub residual: bool,
}

operands! {
    /// The operands of [`Dropout`].
    DropoutOperands<T> of (op: Dropout) {
        /// Of any shape.
        x: T,
        /// `[3]` in `I32`: seed (low, high) and step.
        key: T,
        /// In the shape of x.
        residual: Option<T> where op.residual,
    }
}

impl FusedOp for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        self.mask.check()?;
        let DropoutOperands { x, key, residual } = self.expect(inputs)?;
        let dtype = expect_floats(&[("x", x)])?;
        expect_key(key)?;
        if let Some(residual) = residual {
            expect_floats(&[("x", x), ("residual", residual)])?;
            expect_shape("residual", residual, x.shape)?;
        }
        Ok(result(x.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let DropoutOperands { x, key, residual } = self.operands(inputs);
        let y = self.mask.apply(graph, x, key);
        value(residual.map_or(y, |residual| graph.add(residual, y)))
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let dy = node.gradients[0]?;
        let DropoutOperands { key, residual, .. } = self.operands(node.inputs);
        let dx = graph.dropout(self.mask, dy, key, None);
        let residual = residual.map(|_| Some(dy));
        Some(DropoutOperands { x: Some(dx), key: None, residual }.list())
    }
}

/// Checks the key of random numbers.
pub(super) fn expect_key(key: Operand<'_>) -> Result<(), String> {
    expect_integers("key", key)?;
    expect_shape("key", key, &Shape::from([3]))
}
