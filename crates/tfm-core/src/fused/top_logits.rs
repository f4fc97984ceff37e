//! The output projection of a search that wants no probabilities: from the decoder's states to the
//! greatest logits.

use super::top_of_linear::{expect_projection, project};
use super::{
    FusedOp, LinearOperands, Operand, Precision, Results, Values, expect_floats, expect_shape,
    operands,
};
use crate::{Graph, Value};

/// The k greatest of each row of `x·Wᵀ + b + bans`, greatest first, of equals the lower index
/// first, without keeping the whole product. They differ from log-probabilities by a constant of
/// the row, and so rank the same.
///
/// Outputs: `logits [n, k]` in `F32`, `ids [n, k]` in `I32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopLogits {
    /// Whether a bias is added.
    pub bias: bool,
    /// How many a row; at most v.
    pub k: usize,
    /// The precision of the product's operands.
    pub precision: Precision,
    /// Whether a backend may keep the weight twice: as the product needs it, and in fewer bits, to
    /// find which columns may hold the greatest and compute only those. The result is the same. It
    /// has an effect in full precision only.
    pub screened: bool,
}

operands! {
    /// The operands of [`TopLogits`].
    TopLogitsOperands<T> of (op: TopLogits) {
        /// `[n, d]`.
        x: T,
        /// W: `[v, d]`.
        weight: T,
        /// The weight once more: `[v, d]`.
        screen: Option<T> where op.screened,
        /// b: `[v]`.
        bias: Option<T> where op.bias,
        /// `[v]` in `F32`.
        bans: T,
    }
}

impl FusedOp for TopLogits {
    fn name(&self) -> &'static str {
        "top_logits"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["logits"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let TopLogitsOperands { x, weight, screen, bias, bans } = self.expect(inputs)?;
        let layer = LinearOperands { x, weight, bias, residual: None };
        if let Some(screen) = screen {
            expect_floats(&[("x", x), ("screen", screen)])?;
            expect_shape("screen", screen, weight.shape)?;
        }
        expect_projection(layer, bans, self.k)
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let TopLogitsOperands { x, weight, bias, bans, .. } = self.operands(inputs);
        let layer = LinearOperands { x, weight, bias, residual: None };
        let logits = project(graph, layer, self.precision);
        let allowed = graph.add(logits, bans);
        let (values, ids) = graph.top_k(allowed, self.k);
        Values::from_iter([values, ids])
    }
}
