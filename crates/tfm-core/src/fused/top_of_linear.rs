//! The output projection of a search with what follows it: from the decoder's states to the best candidates.

use super::{
    FusedOp, Linear, Operand, Precision, Results, TopLogProbabilities, Values, expect_floats,
    expect_inputs, expect_rank, expect_shape,
};
use crate::{DType, Graph, Value};

/// The k most probable tokens of each row of `logits = x·Wᵀ + b`, as [`TopLogProbabilities`] finds them, without the
/// logits having to be kept.
///
/// Inputs: `x [n, d]`, `weight [v, d]`, then `bias [v]` if any, then `bans [v]` in `F32`, which are added to the
/// log-probabilities. Outputs: `log_probabilities [n, k]` in `F32`, `ids [n, k]` in `I32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopOfLinear {
    /// Whether a bias is added.
    pub bias: bool,
    /// How many candidates a row; at most v.
    pub k: usize,
    /// The precision of the product's operands.
    pub precision: Precision,
}

impl FusedOp for TopOfLinear {
    fn name(&self) -> &'static str {
        "top_of_linear"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["logits"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_projection(&["x", "weight"], self.bias, self.k, inputs)
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let (operands, bans) = inputs.split_at(inputs.len() - 1);
        let linear = Linear { bias: self.bias, precision: self.precision, ..Linear::default() };
        let logits = graph.fused(linear, operands);
        graph.label(logits, "logits");
        let logits = graph.cast(logits, DType::F32);
        Values::from_iter(graph.fused_all(TopLogProbabilities { k: self.k }, &[logits, bans[0]]))
    }
}

/// The shapes of the k best of a projection to the vocabulary: of x and weights of one shape, which are called `names`, the bias
/// if there is one, and bans.
pub(super) fn expect_projection(
    names: &[&'static str],
    bias: bool,
    k: usize,
    inputs: &[Operand<'_>],
) -> Result<Results, String> {
    let all: Vec<_> = names.iter().copied().chain(bias.then_some("bias")).collect();
    expect_inputs(inputs, &[&all[..], &["bans"]].concat())?;
    let (floats, bans) = inputs.split_at(all.len());
    let named: Vec<_> = all.iter().copied().zip(floats.iter().copied()).collect();
    expect_floats(&named)?;
    let (x, bans) = (inputs[0], bans[0]);
    expect_rank("x", x, 2)?;
    expect_rank("weight", inputs[1], 2)?;
    let (n, v) = (x.shape[0], inputs[1].shape[0]);
    for &(name, weight) in &named[1..names.len()] {
        expect_shape(name, weight, &[v, x.shape[1]])?;
    }
    if bias {
        expect_shape("bias", inputs[names.len()], &[v])?;
    }
    expect_shape("bans", bans, &[v])?;
    if bans.dtype != DType::F32 {
        return Err(format!("bans must be f32, is {}", bans.dtype));
    }
    if k > v {
        return Err(format!("k = {k} candidates of only {v} tokens"));
    }
    let shape = || [n, k].into();
    Ok(Results::from_iter([(shape(), DType::F32), (shape(), DType::I32)]))
}
