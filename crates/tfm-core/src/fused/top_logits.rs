//! The output projection of a search that wants no probabilities: from the decoder's states to the greatest logits.

use super::top_of_linear::expect_projection;
use super::{FusedOp, Linear, Operand, Precision, Results, Values};
use crate::{DType, Graph, Value};

/// The k greatest of each row of `x·Wᵀ + b + bans`, greatest first, of equals the lower index first, without the product having
/// to be kept. Where they rank the same as log-probabilities, of which they lack a constant of the row.
///
/// Inputs: `x [n, d]`, `weight [v, d]`, if it is `screened` `weight [v, d]` once more, then `bias [v]` if any, then `bans [v]` in
/// `F32`. Outputs: `logits [n, k]` in `F32`, `ids [n, k]` in `I32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopLogits {
    /// Whether a bias is added.
    pub bias: bool,
    /// How many a row; at most v.
    pub k: usize,
    /// The precision of the product's operands.
    pub precision: Precision,
    /// Whether a backend may keep the weight twice: as the product needs it, and in fewer bits, to find out where the greatest
    /// may be and compute nothing else. The result is the same. Without effect but in full precision.
    pub screened: bool,
}

impl FusedOp for TopLogits {
    fn name(&self) -> &'static str {
        "top_logits"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["logits"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let names: &[&str] =
            if self.screened { &["x", "weight", "screen"] } else { &["x", "weight"] };
        expect_projection(names, self.bias, self.k, inputs)
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let (operands, bans) = inputs.split_at(inputs.len() - 1);
        let mut operands = operands.to_vec();
        if self.screened {
            operands.remove(2);
        }
        let linear = Linear { bias: self.bias, precision: self.precision, ..Linear::default() };
        let logits = graph.fused(linear, &operands);
        graph.label(logits, "logits");
        let logits = graph.cast(logits, DType::F32);
        let allowed = graph.add(logits, bans[0]);
        let (values, ids) = graph.top_k(allowed, self.k);
        Values::from_iter([values, ids])
    }
}
