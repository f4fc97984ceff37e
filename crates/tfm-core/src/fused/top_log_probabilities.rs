//! The last step of a search: from logits to the best candidates of each hypothesis.

use super::{
    FusedOp, Operand, Results, Values, expect_floats, expect_rank, expect_shape, operands,
};
use crate::{DType, Graph, Value};

/// The k most probable tokens of each row: the top k of `log softmax(logits) + bias`, largest
/// first, the lower id first among equals. A bias of −∞ bans a token without changing the others'
/// probabilities.
///
/// Outputs: `log_probabilities [n, k]`, `ids [n, k]` in `I32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopLogProbabilities {
    /// How many candidates a row; at most v.
    pub k: usize,
}

operands! {
    /// The operands of [`TopLogProbabilities`].
    TopLogProbabilitiesOperands<T> of (op: TopLogProbabilities) {
        /// `[n, v]`.
        logits: T,
        /// `[v]`.
        bias: T,
    }
}

impl FusedOp for TopLogProbabilities {
    fn name(&self) -> &'static str {
        "top_log_probabilities"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let TopLogProbabilitiesOperands { logits, bias } = self.expect(inputs)?;
        let dtype = expect_floats(&[("logits", logits), ("bias", bias)])?;
        expect_rank("logits", logits, 2)?;
        let (n, v) = (logits.shape[0], logits.shape[1]);
        expect_shape("bias", bias, &[v])?;
        if self.k > v {
            return Err(format!("k = {} candidates of only {v} tokens", self.k));
        }
        Ok(Results::from_iter([([n, self.k].into(), dtype), ([n, self.k].into(), DType::I32)]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let TopLogProbabilitiesOperands { logits, bias } = self.operands(inputs);
        let log_probabilities = graph.log_softmax(logits);
        let biased = graph.add(log_probabilities, bias);
        let (values, ids) = graph.top_k(biased, self.k);
        Values::from_iter([values, ids])
    }
}
