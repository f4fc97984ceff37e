//! The gradient of attention.

use super::{
    Attention, FusedOp, Operand, Results, Values, expect_floats, expect_inputs, expect_shape,
};
use crate::{DType, Graph, Value};

/// The gradient of [`Attention`] with respect to query, key and value. The weights are not kept but computed
/// again from the saved L: `P = exp(S − L)`, then `dV = Pᵀ·dO`, `dP = dO·Vᵀ`, `dS = P∘(dP − D)` with
/// `D = rowsum(dO∘O)`, `dQ = scale·dS·K`, `dK = scale·dSᵀ·Q` (Dao et al. 2022, "FlashAttention", algorithm 4).
/// The gradient of a bias is the sum of the dS that it was added to.
///
/// Inputs: `query`, `key`, `value`, `query_offsets`, `key_ranges` as of the op, its outputs `context` (O) and
/// `log_sum_exp` (L), and `d_context` (dO); then `key` of the random numbers, if there is a dropout, and the `bias`, if
/// there is one. Outputs: the gradients of query, key, value, and of the bias, if there is one. Rows that no query
/// sees have the gradient 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionGradient(pub Attention);

impl FusedOp for AttentionGradient {
    fn name(&self) -> &'static str {
        "attention_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let mut names = vec![
            "query",
            "key",
            "value",
            "query_offsets",
            "key_ranges",
            "context",
            "log_sum_exp",
            "d_context",
        ];
        names.extend(self.0.optional_names());
        expect_inputs(inputs, &names)?;
        let mut forward = inputs[..5].to_vec();
        forward.extend(&inputs[8..]);
        let results = self.0.infer(&forward)?;
        let (context, log_sum_exp) = (&results[0], &results[1]);
        expect_floats(&[("query", inputs[0]), ("context", inputs[5]), ("d_context", inputs[7])])?;
        expect_shape("context", inputs[5], &context.0)?;
        expect_shape("log_sum_exp", inputs[6], &log_sum_exp.0)?;
        expect_shape("d_context", inputs[7], &context.0)?;
        if inputs[6].dtype != DType::F32 {
            return Err(format!("log_sum_exp must be f32, is {}", inputs[6].dtype));
        }
        let of = [0, 1, 2].into_iter().chain(self.0.optional(8)[1]);
        Ok(of.map(|i| (inputs[i].shape.clone(), inputs[i].dtype)).collect())
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let mut forward = inputs[..5].to_vec();
        forward.extend(&inputs[8..]);
        let context = self.0.decompose(graph, &forward)[0];
        let mut of = inputs[..3].to_vec();
        of.extend(self.0.optional(8)[1].map(|place| inputs[place]));
        let gradients = graph.differentiate(&[(context, inputs[7])], &of, &[]);
        let pairs = gradients.into_iter().zip(of);
        pairs.map(|(gradient, x)| gradient.unwrap_or_else(|| graph.filled_like(0.0, x))).collect()
    }
}
