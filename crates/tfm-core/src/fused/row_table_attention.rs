//! Attention of a decoding step over keys and values that lie scattered in a pool.

use super::attention::masked_softmax;
use super::{
    FusedOp, Operand, RelativeBias, Results, Values, expect_floats, expect_inputs, expect_integers,
    expect_rank, expect_shape, result, value,
};
use crate::{DType, Graph, Value};

/// `softmax(scale·q·Kᵀ + b)·V` for one query a hypothesis, whose keys and values are rows of a pool named by a
/// table. A beam reorder changes the table; no key or value moves.
///
/// Inputs: `query [n, heads, d_head]`; `key_pool` and `value_pool [rows, heads, d_head]`;
/// `row_table [n, width]`: hypothesis i sees the rows `row_table[i][0 .. lengths[i]]`, and the rest of its
/// table holds any row's id; `lengths [n]`, at most width; both `I32`; with a bias also `bias [buckets, heads]` in
/// `F32`. The pools have one type of floats, from which keys and values are converted to the query's. Output:
/// `[n, heads, d_head]`. A hypothesis of length 0 gives 0. The query stands where the last of its rows does, from which the distances of a bias are counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowTableAttention {
    /// The factor of the scores, 1/√d_head in the paper.
    pub scale: f64,
    /// What is added to the scores.
    pub bias: Option<RelativeBias>,
}

impl FusedOp for RowTableAttention {
    fn name(&self) -> &'static str {
        "row_table_attention"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["scores", "weights"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let mut names = vec!["query", "key_pool", "value_pool", "row_table", "lengths"];
        names.extend(self.bias.map(|_| "bias"));
        expect_inputs(inputs, &names)?;
        let [query, key, v, table, lengths] = [0, 1, 2, 3, 4].map(|i| inputs[i]);
        let dtype = expect_floats(&[("query", query)])?;
        expect_floats(&[("key_pool", key), ("value_pool", v)])?;
        expect_rank("query", query, 3)?;
        expect_rank("key_pool", key, 3)?;
        expect_shape("key_pool", key, &[key.shape[0], query.shape[1], query.shape[2]])?;
        expect_shape("value_pool", v, key.shape)?;
        expect_integers("row_table", table)?;
        expect_integers("lengths", lengths)?;
        expect_rank("row_table", table, 2)?;
        expect_shape("row_table", table, &[query.shape[0], table.shape[1]])?;
        expect_shape("lengths", lengths, &[query.shape[0]])?;
        if let Some(relative) = self.bias {
            relative.check(inputs[5], query.shape[1])?;
        }
        Ok(result(query.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let [query, key, v, table, lengths] = [0, 1, 2, 3, 4].map(|i| inputs[i]);
        let dtype = graph.dtype(query);
        let (n, width) = (graph.shape(table)[0], graph.shape(table)[1]);
        let (heads, d_head) = (graph.shape(query)[1], graph.shape(query)[2]);
        let key = graph.gather(key, table); // [n, width, heads, d_head]
        let v = graph.gather(v, table);
        let query = graph.reshape(query, [n, heads, 1, d_head]);
        let j = graph.iota(width);
        let lengths = graph.reshape(lengths, [n, 1]);
        let visible = graph.less(j, lengths);
        let visible = graph.cast(visible, dtype); // [n, width]
        // Rows past the length may hold anything, also NaN, which a weight of 0 would not take away.
        let seen = graph.reshape(visible, [n, width, 1, 1]);
        let zero = graph.constant_like(0.0, v);
        let [key, v] = [key, v].map(|x| {
            let x = graph.select(seen, x, zero);
            graph.cast(x, dtype)
        });
        let key = graph.permute(key, &[0, 2, 3, 1]); // [n, heads, d_head, width]
        let v = graph.permute(v, &[0, 2, 1, 3]); // [n, heads, width, d_head]
        let products = graph.matmul(query, key);
        let mut scores = graph.scale(products, self.scale); // [n, heads, 1, width]
        if let Some(relative) = self.bias {
            let one = graph.constant(1.0, DType::I32);
            let last = graph.sub(lengths, one);
            let distance = graph.sub(j, last);
            let bias = relative.of_distances(graph, inputs[5], distance); // [n, width, heads]
            let bias = graph.permute(bias, &[0, 2, 1]);
            let bias = graph.reshape(bias, [n, heads, 1, width]);
            let bias = graph.cast(bias, dtype);
            scores = graph.add(scores, bias);
        }
        graph.label(scores, "scores");
        let visible = graph.reshape(visible, [n, 1, 1, width]);
        let (weights, _) = masked_softmax(graph, scores, visible);
        graph.label(weights, "weights");
        let context = graph.matmul(weights, v); // [n, heads, 1, d_head]
        value(graph.reshape(context, [n, heads, d_head]))
    }
}
