//! The last step of a search: from logits to the best candidates of each hypothesis.

use super::{
    FusedOp, Operand, Results, Values, expect_floats, expect_inputs, expect_rank, expect_shape,
};
use crate::{DType, Graph, Value};

/// The k most probable tokens of each row: the top k of `log softmax(logits) + bias`, largest first, the
/// lower id first among equals. A bias of −∞ bans a token without changing the others' probabilities.
///
/// Inputs: `logits [n, v]`, `bias [v]`. Outputs: `log_probabilities [n, k]`, `ids [n, k]` in `I32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopLogProbabilities {
    /// How many candidates a row; at most v.
    pub k: usize,
}

impl FusedOp for TopLogProbabilities {
    fn name(&self) -> &'static str {
        "top_log_probabilities"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &["logits", "bias"])?;
        let dtype = expect_floats(&[("logits", inputs[0]), ("bias", inputs[1])])?;
        expect_rank("logits", inputs[0], 2)?;
        let (n, v) = (inputs[0].shape[0], inputs[0].shape[1]);
        expect_shape("bias", inputs[1], &[v])?;
        if self.k > v {
            return Err(format!("k = {} candidates of only {v} tokens", self.k));
        }
        Ok(Results::from_iter([([n, self.k].into(), dtype), ([n, self.k].into(), DType::I32)]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let log_probabilities = graph.log_softmax(inputs[0]);
        let biased = graph.add(log_probabilities, inputs[1]);
        let (values, ids) = graph.top_k(biased, self.k);
        Values::from_iter([values, ids])
    }
}
