//! Attention by primitive ops: its definition.

use super::{Attention, AttentionOperands, KeyOperands, KeyRows, KeySet};
use crate::fused::Values;
use crate::op::ReduceOp;
use crate::{DType, Graph, Value};

pub(super) fn decompose(
    op: &Attention,
    graph: &mut Graph,
    operands: &AttentionOperands<Value>,
) -> Values {
    let query = operands.query;
    let mut sets = vec![Scored::new(op, op.keys, graph, query, &operands.keys)];
    if let (Some(set), Some(keys)) = (op.more_keys, &operands.more_keys) {
        sets.push(Scored::new(op, set, graph, query, keys));
    }
    let scores: Vec<Value> = sets.iter().map(|set| set.scores).collect();
    let visible: Vec<Value> = sets.iter().map(|set| set.visible).collect();
    let scores = graph.concat(2, &scores); // [heads, tq, columns]
    let visible = graph.concat(1, &visible); // [tq, columns]
    graph.label(scores, "scores");
    let (mut weights, log_sum_exp) = masked_softmax(graph, scores, visible);
    graph.label(weights, "weights");
    if let (Some(mask), Some(key)) = (op.dropout, operands.random_key) {
        weights = mask.apply(graph, weights, key);
    }
    let context = if let [set] = &sets[..] {
        set.weigh(graph, query, weights)
    } else {
        let mut begin = 0;
        let parts = sets.iter().map(|set| {
            let columns = graph.shape(set.scores).last_extent();
            let of_set = graph.slice(weights, 2, begin, columns);
            begin += columns;
            set.weigh(graph, query, of_set)
        });
        let parts: Vec<Value> = parts.collect();
        graph.add(parts[0], parts[1])
    };
    let mut results = Values::from_iter([context]);
    if op.gives_sums() {
        let (queries, heads) = (graph.shape(query)[0], graph.shape(query)[1]);
        let log_sum_exp = graph.reshape(log_sum_exp, [heads, queries]);
        results.push(graph.permute(log_sum_exp, &[1, 0]));
    }
    results
}

/// Softmax over the last axis among the entries where `visible` (broadcast) is 1; 0 elsewhere, and
/// 0 throughout a row where nothing is visible. Then, in `F32`, the logarithm of the sum of the
/// visible scores' exponentials, 0 where nothing is.
fn masked_softmax(graph: &mut Graph, scores: Value, visible: Value) -> (Value, Value) {
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

/// The scores of a set of keys.
struct Scored {
    /// `[heads, tq, columns]`
    scores: Value,
    /// `[tq, columns]`: 1 where the query sees the key, else 0.
    visible: Value,
    values: Grouped,
}

/// The values of a set, grouped by key heads as the weights multiply them.
enum Grouped {
    /// `[kv_heads, rows, d_head]`: all queries share them.
    Shared(Value),
    /// `[tq, kv_heads, width, d_head]`: each query has its own.
    Own(Value),
}

impl Scored {
    fn new(
        op: &Attention,
        set: KeySet,
        graph: &mut Graph,
        query: Value,
        operands: &KeyOperands<Value>,
    ) -> Scored {
        let (queries, heads, d_head) = dims(graph, query);
        let (rows, kv_heads, _) = dims(graph, operands.key);
        let group = heads.checked_div(kv_heads).unwrap_or(1);
        let (visible, distance) = set.visible(graph, query, operands); // [tq, columns]
        let (products, values) = match operands.rows {
            KeyRows::Ranges { .. } => {
                let seen = graph.reduce(ReduceOp::Max, visible, 0);
                let seen = graph.reshape(seen, [rows, 1, 1]);
                let [key, v] = [operands.key, operands.value]
                    .map(|x| zero_unless_visible(graph, x, seen, query));
                let query = graph.permute(query, &[1, 0, 2]); // [heads, tq, d_head]
                let query = graph.reshape(query, [kv_heads, group * queries, d_head]);
                let key = graph.permute(key, &[1, 2, 0]); // [kv_heads, d_head, rows]
                let v = graph.permute(v, &[1, 0, 2]); // [kv_heads, rows, d_head]
                let products = graph.matmul(query, key);
                (graph.reshape(products, [heads, queries, rows]), Grouped::Shared(v))
            }
            KeyRows::Table { row_table, .. } => {
                let width = graph.shape(row_table)[1];
                let seen = graph.reshape(visible, [queries, width, 1, 1]);
                let [key, v] = [operands.key, operands.value].map(|x| {
                    let x = graph.gather(x, row_table); // [tq, width, kv_heads, d_head]
                    zero_unless_visible(graph, x, seen, query)
                });
                let query = graph.reshape(query, [queries, kv_heads, group, d_head]);
                let key = graph.permute(key, &[0, 2, 3, 1]); // [tq, kv_heads, d_head, width]
                let v = graph.permute(v, &[0, 2, 1, 3]); // [tq, kv_heads, width, d_head]
                let products = graph.matmul(query, key);
                let products = graph.reshape(products, [queries, heads, width]);
                (graph.permute(products, &[1, 0, 2]), Grouped::Own(v))
            }
        };
        let mut scores = match op.soft_cap {
            Some(cap) => {
                let inner = graph.scale(products, op.scale / cap);
                let inner = graph.tanh(inner);
                graph.scale(inner, cap)
            }
            None => graph.scale(products, op.scale),
        };
        if let (Some(relative), Some(bias)) = (set.bias, operands.bias) {
            let bias = relative.of_distances(graph, bias, distance); // [tq, columns, heads]
            let bias = graph.permute(bias, &[2, 0, 1]);
            let bias = graph.cast(bias, graph.dtype(scores));
            scores = graph.add(scores, bias);
        }
        Scored { scores, visible, values }
    }

    /// The set's part of the context `[tq, heads, d_head]`, of its weights `[heads, tq, columns]`.
    fn weigh(&self, graph: &mut Graph, query: Value, weights: Value) -> Value {
        let (queries, heads, d_head) = dims(graph, query);
        let columns = graph.shape(weights).last_extent();
        match self.values {
            Grouped::Shared(v) => {
                let kv_heads = graph.shape(v)[0];
                let group = heads.checked_div(kv_heads).unwrap_or(1);
                let weights = graph.reshape(weights, [kv_heads, group * queries, columns]);
                let context = graph.matmul(weights, v);
                let context = graph.reshape(context, [heads, queries, d_head]);
                graph.permute(context, &[1, 0, 2])
            }
            Grouped::Own(v) => {
                let kv_heads = graph.shape(v)[1];
                let group = heads.checked_div(kv_heads).unwrap_or(1);
                let weights = graph.permute(weights, &[1, 0, 2]);
                let weights = graph.reshape(weights, [queries, kv_heads, group, columns]);
                let context = graph.matmul(weights, v); // [tq, kv_heads, group, d_head]
                graph.reshape(context, [queries, heads, d_head])
            }
        }
    }
}

/// The extents of an operand of heads.
fn dims(graph: &Graph, x: Value) -> (usize, usize, usize) {
    let shape = graph.shape(x);
    (shape[0], shape[1], shape[2])
}

/// Keys or values in the query's type, and 0 where no query sees them. Rows that no query sees may
/// hold anything, also NaN, which a weight of 0 would not remove.
fn zero_unless_visible(graph: &mut Graph, x: Value, seen: Value, query: Value) -> Value {
    let zero = graph.constant_like(0.0, x);
    let x = graph.select(seen, x, zero);
    graph.cast(x, graph.dtype(query))
}

impl KeySet {
    /// `[tq, columns]` in the query's type: 1 where query i sees the key of column j, else 0. Then
    /// the distance of each key from the query. It means something only where an attribute asks for
    /// distances and the key is one of the query's.
    fn visible(
        &self,
        graph: &mut Graph,
        query: Value,
        operands: &KeyOperands<Value>,
    ) -> (Value, Value) {
        let by_distance = self.causal || self.window.is_some() || self.bias.is_some();
        let (mut visible, distance) = match operands.rows {
            KeyRows::Ranges { query_offsets, key_ranges } => {
                let [queries, rows] = [query, operands.key].map(|x| graph.shape(x)[0]);
                in_ranges(graph, [queries, rows], query_offsets, key_ranges, by_distance)
            }
            KeyRows::Table { row_table, lengths } => {
                in_lists(graph, row_table, lengths, by_distance)
            }
        };
        if self.causal {
            let one = graph.constant(1.0, DType::I32);
            let not_later = graph.less(distance, one);
            visible = graph.mul(visible, not_later);
        }
        if let Some(window) = self.window {
            let window = graph.constant(window.min(i32::MAX as usize) as f64, DType::I32);
            let steps = graph.abs(distance);
            let near = graph.less(steps, window);
            visible = graph.mul(visible, near);
        }
        (graph.cast(visible, graph.dtype(query)), distance)
    }
}

/// Which of all rows each query's range has, by arithmetic on offsets and ranges. Then the distance
/// of each row from the query, if `by_distance`.
fn in_ranges(
    graph: &mut Graph,
    [queries, rows]: [usize; 2],
    offsets: Value,
    ranges: Value,
    by_distance: bool,
) -> (Value, Value) {
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
    let visible = graph.mul(not_before, not_after);
    if !by_distance {
        return (visible, position);
    }
    let query_start = column(graph, starts);
    let query_end = column(graph, ends);
    let query_length = graph.sub(query_end, query_start);
    let own = graph.sub(i_column, query_start);
    let lead = graph.sub(key_length, query_length);
    let own_position = graph.add(own, lead);
    (visible, graph.sub(position, own_position))
}

/// Which columns of its list each query sees. Then the distance of each column from the query,
/// which stands at the last that it sees, if `by_distance`.
fn in_lists(
    graph: &mut Graph,
    row_table: Value,
    lengths: Value,
    by_distance: bool,
) -> (Value, Value) {
    let (queries, width) = (graph.shape(row_table)[0], graph.shape(row_table)[1]);
    let j = graph.iota(width);
    let lengths = graph.reshape(lengths, [queries, 1]);
    let visible = graph.less(j, lengths);
    if !by_distance {
        return (visible, j);
    }
    let one = graph.constant(1.0, DType::I32);
    let last = graph.sub(lengths, one);
    (visible, graph.sub(j, last))
}
