//! The output projection of a search with what follows it: from the decoder's states to the best
//! candidates.

use super::{
    FusedOp, Linear, LinearOperands, Operand, Precision, Results, Values, expect_floats,
    expect_rank, expect_shape, operands,
};
use crate::{DType, Graph, Value};

/// The k most probable tokens of each row of `logits = x·Wᵀ + b`, as
/// [`TopLogProbabilities`](super::TopLogProbabilities) finds them, without keeping all logits.
///
/// Outputs: `log_probabilities [n, k]` in `F32`, `ids [n, k]` in `I32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopOfLinear {
    /// Whether a bias is added.
    pub bias: bool,
    /// How many candidates a row; at most v.
    pub k: usize,
    /// The precision of the product's operands.
    pub precision: Precision,
}

operands! {
    /// The operands of [`TopOfLinear`].
    TopOfLinearOperands<T> of (op: TopOfLinear) {
        /// `[n, d]`.
        x: T,
        /// W: `[v, d]`.
        weight: T,
        /// b: `[v]`.
        bias: Option<T> where op.bias,
        /// `[v]` in `F32`: what is added to the log-probabilities.
        bans: T,
    }
}

impl FusedOp for TopOfLinear {
    fn name(&self) -> &'static str {
        "top_of_linear"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["logits"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let TopOfLinearOperands { x, weight, bias, bans } = self.expect(inputs)?;
        expect_projection(LinearOperands { x, weight, bias, residual: None }, bans, self.k)
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let TopOfLinearOperands { x, weight, bias, bans } = self.operands(inputs);
        let layer = LinearOperands { x, weight, bias, residual: None };
        let logits = project(graph, layer, self.precision);
        let (values, ids) = graph.top_log_probabilities(logits, bans, self.k);
        Values::from_iter([values, ids])
    }
}

/// The logits of a projection to the vocabulary, in `F32`.
pub(super) fn project(
    graph: &mut Graph,
    layer: LinearOperands<Value>,
    precision: Precision,
) -> Value {
    let linear = Linear { bias: layer.bias.is_some(), precision, ..Linear::default() };
    let logits = graph.fused(linear, &layer.list());
    graph.label(logits, "logits");
    graph.cast(logits, DType::F32)
}

/// The results of the k best of each row of a projection to a vocabulary.
pub(super) fn expect_projection(
    layer: LinearOperands<Operand<'_>>,
    bans: Operand<'_>,
    k: usize,
) -> Result<Results, String> {
    let [n, v] = expect_vocabulary(layer, bans)?;
    if k > v {
        return Err(format!("k = {k} candidates of only {v} tokens"));
    }
    let shape = || [n, k].into();
    Ok(Results::from_iter([(shape(), DType::F32), (shape(), DType::I32)]))
}

/// The rows n and the tokens v of a projection to a vocabulary.
pub(super) fn expect_vocabulary(
    layer: LinearOperands<Operand<'_>>,
    bans: Operand<'_>,
) -> Result<[usize; 2], String> {
    let LinearOperands { x, weight, bias, .. } = layer;
    expect_floats(&[("x", x), ("weight", weight)])?;
    expect_rank("x", x, 2)?;
    expect_rank("weight", weight, 2)?;
    let (n, v) = (x.shape[0], weight.shape[0]);
    expect_shape("weight", weight, &[v, x.shape[1]])?;
    if let Some(bias) = bias {
        expect_floats(&[("x", x), ("bias", bias)])?;
        expect_shape("bias", bias, &[v])?;
    }
    expect_shape("bans", bans, &[v])?;
    if bans.dtype != DType::F32 {
        return Err(format!("bans must be f32, is {}", bans.dtype));
    }
    Ok([n, v])
}
