//! Scaled dot-product attention over a ragged batch.

use super::dropout::expect_key;
use super::{
    AttentionGradient, Differentiated, DropoutMask, FusedOp, Gradients, Operand, RelativeBias,
    Results, Values, expect_floats, expect_inputs, expect_integers, expect_rank, expect_shape,
};
use crate::op::ReduceOp;
use crate::{DType, Graph, Value};

/// `softmax(scale·Q·Kᵀ + B)·V` ("Attention is all you need", eq. 1) for each sequence and head of a ragged batch,
/// with learned biases B by distance where there are any.
///
/// Inputs: `query [tq, heads, d_head]`; `key` and `value [rows, heads, d_head]`;
/// `query_offsets [n + 1]`: the queries of sequence s are `query_offsets[s] .. query_offsets[s + 1]`;
/// `key_ranges [n, 2]`: its keys are the rows `start .. start + length`. Offsets ascend from 0 to tq, ranges
/// lie inside the rows; both `I32`. Keys and values have one type of floats; where it is not the query's they are converted
/// to that, and there is no gradient op. With a dropout also its `key [3]` in `I32`; with a bias also
/// `bias [buckets, heads]` in `F32`. Outputs: the context `[tq, heads, d_head]`, and `L [tq, heads]` in `F32`, the
/// logarithm of the sum of the exponentials of each query's scores, from which the gradient finds the weights
/// again.
///
/// Query i of q stands at position `i + (k − q)` of its k keys: both end together. With `causal` it sees the keys
/// up to there; the distance that decides the bias is that of the key from there. A query that sees no key
/// gives 0, also as L. The mask of the dropout is drawn for weights `[heads, tq, rows]`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attention {
    /// The factor of the scores, 1/√d_head in the paper.
    pub scale: f64,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// What is dropped of the weights.
    pub dropout: Option<DropoutMask>,
    /// What is added to the scores.
    pub bias: Option<RelativeBias>,
}

impl FusedOp for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["scores", "weights"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let mut names = vec!["query", "key", "value", "query_offsets", "key_ranges"];
        names.extend(self.optional_names());
        expect_inputs(inputs, &names)?;
        let optional = self.optional(5).map(|place| place.map(|place| inputs[place]));
        if let (Some(mask), Some(key)) = (self.dropout, optional[0]) {
            mask.check()?;
            expect_key(key)?;
        }
        let [query, key, v, offsets, ranges] = [0, 1, 2, 3, 4].map(|i| inputs[i]);
        let dtype = expect_floats(&[("query", query)])?;
        expect_floats(&[("key", key), ("value", v)])?;
        expect_rank("query", query, 3)?;
        expect_rank("key", key, 3)?;
        expect_shape("key", key, &[key.shape[0], query.shape[1], query.shape[2]])?;
        expect_shape("value", v, key.shape)?;
        expect_integers("query_offsets", offsets)?;
        expect_integers("key_ranges", ranges)?;
        expect_rank("key_ranges", ranges, 2)?;
        expect_shape("key_ranges", ranges, &[ranges.shape[0], 2])?;
        expect_shape("query_offsets", offsets, &[ranges.shape[0] + 1])?;
        if let (Some(relative), Some(bias)) = (self.bias, optional[1]) {
            relative.check(bias, query.shape[1])?;
        }
        let log_sum_exp = query.shape[..2].iter().copied().collect();
        Ok(Results::from_iter([(query.shape.clone(), dtype), (log_sum_exp, DType::F32)]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let [query, key, v, offsets, ranges] = [0, 1, 2, 3, 4].map(|i| inputs[i]);
        let [random_key, bias] = self.optional(5).map(|place| place.map(|place| inputs[place]));
        let (visible, distance) = self.visible(graph, query, key, offsets, ranges); // [tq, rows]
        // Rows that nobody sees may hold anything, also NaN, which a weight of 0 would not take away.
        let (queries, rows) = (graph.shape(query)[0], graph.shape(key)[0]);
        let heads = graph.shape(query)[1];
        let seen = graph.reduce(ReduceOp::Max, visible, 0);
        let seen = graph.reshape(seen, [rows, 1, 1]);
        let zero = graph.constant_like(0.0, v);
        let dtype = graph.dtype(query);
        let [key, v] = [key, v].map(|x| {
            let x = graph.select(seen, x, zero);
            graph.cast(x, dtype)
        });
        let query = graph.permute(query, &[1, 0, 2]); // [heads, tq, d_head]
        let key = graph.permute(key, &[1, 2, 0]); // [heads, d_head, rows]
        let v = graph.permute(v, &[1, 0, 2]); // [heads, rows, d_head]
        let products = graph.matmul(query, key);
        let mut scores = graph.scale(products, self.scale); // [heads, tq, rows]
        if let (Some(relative), Some(bias)) = (self.bias, bias) {
            let bias = relative.of_distances(graph, bias, distance); // [tq, rows, heads]
            let bias = graph.permute(bias, &[2, 0, 1]);
            let bias = graph.cast(bias, graph.dtype(scores));
            scores = graph.add(scores, bias);
        }
        graph.label(scores, "scores");
        let (mut weights, log_sum_exp) = masked_softmax(graph, scores, visible);
        graph.label(weights, "weights");
        if let (Some(mask), Some(key)) = (self.dropout, random_key) {
            weights = mask.apply(graph, weights, key);
        }
        let context = graph.matmul(weights, v); // [heads, tq, d_head]
        let context = graph.permute(context, &[1, 0, 2]);
        let log_sum_exp = graph.reshape(log_sum_exp, [heads, queries]);
        let log_sum_exp = graph.permute(log_sum_exp, &[1, 0]);
        Values::from_iter([context, log_sum_exp])
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let (Some(d_context), None) = (node.gradients[0], node.gradients[1]) else {
            return None;
        };
        if graph.dtype(node.inputs[0]) != graph.dtype(node.inputs[1]) {
            return None;
        }
        let mut inputs = node.inputs[..5].to_vec();
        inputs.extend([node.outputs[0], node.outputs[1], d_context]);
        inputs.extend(&node.inputs[5..]);
        let mut found = graph.fused_all(AttentionGradient(*self), &inputs).into_iter().map(Some);
        let mut gradients: Gradients = found.by_ref().take(3).collect();
        // Offsets, ranges and random keys have none.
        gradients.extend([None, None]);
        gradients.extend(self.dropout.map(|_| None));
        gradients.extend(found);
        Some(gradients)
    }
}

impl Attention {
    /// Where the optional operands stand, if there are `fixed` others before them: the key of the dropout's numbers, and
    /// the biases.
    pub fn optional(&self, fixed: usize) -> [Option<usize>; 2] {
        let key = self.dropout.map(|_| fixed);
        [key, self.bias.map(|_| fixed + usize::from(key.is_some()))]
    }

    /// Their names.
    pub(super) fn optional_names(&self) -> impl Iterator<Item = &'static str> {
        let names = [self.dropout.map(|_| "random_key"), self.bias.map(|_| "bias")];
        names.into_iter().flatten()
    }

    /// 1 where query i sees row j, else 0: `[tq, rows]`, from the offsets and ranges by arithmetic. Then how many
    /// positions after the query the row is, if it matters, where both are of one sequence.
    fn visible(
        &self,
        graph: &mut Graph,
        query: Value,
        key: Value,
        offsets: Value,
        ranges: Value,
    ) -> (Value, Value) {
        let (dtype, queries, rows) =
            (graph.dtype(query), graph.shape(query)[0], graph.shape(key)[0]);
        let sequences = graph.shape(ranges)[0];
        let i = graph.iota(queries);
        let ends = graph.slice(offsets, 0, 1, sequences);
        let starts = graph.slice(offsets, 0, 0, sequences);

        // The sequence of query i: how many sequences end at or before it.
        let i_column = graph.reshape(i, [queries, 1]);
        let inside = graph.less(i_column, ends);
        let ended = graph.not(inside);
        let ended = graph.reduce(ReduceOp::Sum, ended, 1);
        let sequence = graph.reshape(ended, [queries]);

        let column = |graph: &mut Graph, table: Value| {
            let picked = graph.gather(table, sequence);
            graph.reshape(picked, [queries, 1])
        };
        let key_starts = graph.slice(ranges, 1, 0, 1);
        let key_lengths = graph.slice(ranges, 1, 1, 1);
        let key_start = column(graph, key_starts);
        let key_length = column(graph, key_lengths);
        let j = graph.iota(rows);
        let position = graph.sub(j, key_start); // of row j among the keys of query i's sequence
        let before = graph.shift(position, 1.0);
        let zero = graph.constant(0.0, DType::I32);
        let not_before = graph.less(zero, before);
        let not_after = graph.less(position, key_length);
        let mut visible = graph.mul(not_before, not_after);
        let mut distance = position;
        if self.causal || self.bias.is_some() {
            let query_start = column(graph, starts);
            let query_end = column(graph, ends);
            let query_length = graph.sub(query_end, query_start);
            let own = graph.sub(i_column, query_start);
            let lead = graph.sub(key_length, query_length);
            let own_position = graph.add(own, lead);
            distance = graph.sub(position, own_position);
        }
        if self.causal {
            let one = graph.constant(1.0, DType::I32);
            let not_later = graph.less(distance, one);
            visible = graph.mul(visible, not_later);
        }
        (graph.cast(visible, dtype), distance)
    }
}

/// Softmax over the last axis among the entries where `visible` (broadcast) is 1; 0 elsewhere, and 0
/// throughout a row where nothing is visible. Then, in `F32`, the logarithm of the sum of the visible scores'
/// exponentials, 0 where nothing is.
pub(super) fn masked_softmax(graph: &mut Graph, scores: Value, visible: Value) -> (Value, Value) {
    let axis = graph.shape(scores).len() - 1;
    // Finite, so that a row without visible entries stays free of NaN.
    let hidden = graph.constant_like(graph.dtype(scores).lowest(), scores);
    let masked = graph.select(visible, scores, hidden);
    let max = graph.reduce(ReduceOp::Max, masked, axis);
    let shifted = graph.sub(masked, max);
    let exp = graph.exp(shifted);
    let exp = graph.mul(exp, visible);
    let sum = graph.reduce(ReduceOp::Sum, exp, axis);
    let zero = graph.constant_like(0.0, sum);
    let nothing = graph.equal(sum, zero);
    let sum = graph.add(sum, nothing);
    let weights = graph.div(exp, sum);
    let [wide_sum, max] = [sum, max].map(|x| graph.cast(x, DType::F32));
    let log_sum = graph.log(wide_sum);
    let log_sum_exp = graph.add(max, log_sum);
    let zero = graph.constant_like(0.0, log_sum_exp);
    (weights, graph.select(nothing, zero, log_sum_exp))
}
