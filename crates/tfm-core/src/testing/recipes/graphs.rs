//! Random whole graphs: any op after any other, on values of any layout, with parameters and
//! states.

use super::attention::row_tables;
use super::primitives::moved;
use super::{Range, basics};
use crate::fused::{Activation, Attention, AttentionOperands, KeyLookup, KeyRows, KeySet, Linear};
use crate::op::{BinaryOp, ReduceOp};
use crate::testing::{Builder, Recipe};
use crate::{DType, Shape, Value};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

/// The most elements of a value: shapes that grow beyond are cut.
const MOST: usize = 2000;

/// Graphs of up to 24 ops. All float values near 1, so that bounds stay narrow.
pub fn graphs(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), 1..=24usize)
        .prop_map(|((dtype, seed), ops)| {
            Recipe::new(format!("graph of {ops} ops"), dtype, seed, move |b| {
                let mut values = vec![start(b)];
                for number in 0..ops {
                    // Mostly the newest, so that graphs become deep; also two ops on one value.
                    let newest = values.len() - 1;
                    let chosen = if b.data.once_in(2) { newest } else { b.data.below(newest + 1) };
                    let other = values[b.data.below(newest + 1)];
                    let scope = format!("op{number}");
                    let outer = b.graph.enter(&scope);
                    let results = grow(b, values[chosen], other);
                    b.graph.leave(outer);
                    for result in results {
                        let result = within_limits(b, result);
                        values.push(result);
                    }
                }
                let last = values[values.len() - 1];
                b.graph.output(last);
                for _ in 0..b.data.below(3) {
                    let any = values[b.data.below(values.len())];
                    b.graph.output(any);
                }
            })
        })
        .boxed()
}

fn start(b: &mut Builder) -> Value {
    let rows = if b.data.once_in(10) { 0 } else { 1 + b.data.below(12) };
    let width = 1 + b.data.below(24);
    b.floats([rows, width], 1.0)
}

/// The value, or a part of it if it is too large.
fn within_limits(b: &mut Builder, mut value: Value) -> Value {
    while b.graph.shape(value).elements() > MOST {
        let shape = b.graph.shape(value);
        let axis = (0..shape.len()).max_by_key(|&axis| shape[axis]).unwrap_or(0);
        let half = shape[axis] / 2;
        value = b.graph.slice(value, axis, 0, half);
    }
    value
}

/// The value with its outer axes as one: `[rows, width]`.
fn flat(b: &mut Builder, x: Value) -> (Value, usize, usize) {
    let shape = b.graph.shape(x).clone();
    let (rows, width) = (shape.rows(), shape.last_extent());
    (b.graph.reshape(x, [rows, width]), rows, width)
}

/// Indices below `bound`, given as an input.
fn ids(b: &mut Builder, n: usize, bound: usize) -> Value {
    let data = (0..n).map(|_| b.data.below(bound) as i32).collect();
    b.indices(bound, [n], data)
}

/// One more op on `x`, and perhaps on `other`.
fn grow(b: &mut Builder, x: Value, other: Value) -> Vec<Value> {
    let shape = b.graph.shape(x).clone();
    match b.data.below(22) {
        0..=2 => vec![moved(b, x)],
        3 => vec![unary(b, x)],
        4 | 5 => binary(b, x, other),
        6 => {
            let condition = b.graph.less(x, x);
            let zero = b.graph.constant_like(0.0, x);
            let negative = b.graph.less(x, zero);
            let chosen = b.graph.max(condition, negative);
            let halved = b.graph.scale(x, 0.5);
            vec![b.graph.select(chosen, halved, x)]
        }
        7 if !shape.is_empty() => {
            let axis = b.data.below(shape.len());
            let max = b.graph.reduce(ReduceOp::Max, x, axis);
            let sum = b.graph.reduce(ReduceOp::Sum, x, axis);
            let mean = b.graph.scale(sum, 1.0 / shape[axis].max(1) as f64);
            // No elements have the maximum −∞.
            vec![if shape[axis] == 0 { mean } else { b.graph.add(max, mean) }]
        }
        8 => {
            let (x, rows, width) = flat(b, x);
            let n = 1 + b.data.below(8);
            let right = b.floats([width, n], 1.0 / (width.max(1) as f64).sqrt());
            let product = b.graph.matmul(x, right);
            vec![b.graph.reshape(product, [rows, n])]
        }
        9 | 10 if !shape.is_empty() => linears(b, x),
        11 if !shape.is_empty() => {
            let d = shape.last_extent();
            let (weight, bias) = (b.weight([d], 1.0), b.weight([d], 1.0));
            vec![b.graph.layer_norm(x, weight, bias, 0.25)]
        }
        12 if !shape.is_empty() => vec![b.graph.softmax(x)],
        13 => {
            let activation = Activation::ALL[b.data.below(Activation::ALL.len())];
            vec![b.graph.activate(activation, x)]
        }
        14 => vec![self_attention(b, x)],
        15 => cached_attention(b, x),
        16 => {
            let (n, d) = (b.data.below(6), 1 + b.data.below(16));
            let (picked, table) = (ids(b, n, 7), b.weight([7, d], 0.5));
            vec![b.graph.embedding(picked, table, 2.0, None)]
        }
        17 => {
            let (x, rows, _) = flat(b, x);
            let n = if rows == 0 { 0 } else { b.data.below(7) };
            let picked = ids(b, n, rows);
            let gathered = b.graph.gather(x, picked);
            let back = ids(b, n, 5);
            let summed = b.graph.scatter_add(gathered, back, 5);
            vec![gathered, b.graph.tanh(summed)]
        }
        18 => {
            let (x, _, width) = flat(b, x);
            let k = width.div_ceil(2);
            vec![b.graph.top_k(x, k).0]
        }
        19 if !shape.is_empty() => {
            let axis = b.data.below(shape.len());
            vec![b.graph.concat(axis, &[x, x])]
        }
        20 => {
            let wide = b.graph.cast(x, DType::F32);
            let root = b.graph.tanh(wide);
            let dtype = b.dtype;
            vec![b.graph.cast(root, dtype)]
        }
        _ => vec![static_arithmetic(b, x)],
    }
}

fn unary(b: &mut Builder, x: Value) -> Value {
    let bounded = b.graph.tanh(x);
    match b.data.below(8) {
        0 => b.graph.neg(x),
        1 => b.graph.abs(x),
        2 => b.graph.exp(bounded),
        3 => b.graph.sin(x),
        4 => b.graph.cos(x),
        5 => b.graph.erf(x),
        kind => {
            let size = b.graph.abs(x);
            let positive = b.graph.shift(size, 0.5);
            match kind {
                6 => b.graph.reciprocal(positive),
                _ => b.graph.log(positive),
            }
        }
    }
}

fn binary(b: &mut Builder, x: Value, other: Value) -> Vec<Value> {
    let fits = b.graph.shape(x).broadcast(b.graph.shape(other)).is_some();
    // A value with itself, and with one that broadcasts.
    let other = if fits { other } else { x };
    let op = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max, BinaryOp::Min];
    let result = b.graph.binary(op[b.data.below(op.len())], x, other);
    vec![result, b.graph.tanh(result)]
}

/// Linear layers on one value, which are joined; and what follows them, which is fused.
fn linears(b: &mut Builder, x: Value) -> Vec<Value> {
    let k = b.graph.shape(x).last_extent();
    let bias = b.data.once_in(2);
    let mut results: Vec<Value> = Vec::new();
    for _ in 0..1 + b.data.below(3) {
        let n = 1 + b.data.below(10);
        let weight = b.weight([n, k], 1.0 / (k.max(1) as f64).sqrt());
        let bias = bias.then(|| b.weight([n], 0.5));
        let mut y = b.graph.linear(x, weight, bias);
        if b.data.once_in(3) {
            y = b.graph.activate(Activation::ALL[b.data.below(5)], y);
        }
        if b.data.once_in(3) {
            let residual = b.graph.shape(y).clone();
            let residual = b.floats(residual, 1.0);
            y = b.graph.add(residual, y);
        }
        results.push(y);
    }
    if b.data.once_in(3) {
        let op = Linear { activation: Some(Activation::Gelu), ..Linear::default() };
        let weight = b.weight([3, k], 0.5);
        results.push(b.graph.fused(op, &[x, weight]));
    }
    results
}

/// Causal attention of a value's rows to themselves, in two sequences.
fn self_attention(b: &mut Builder, x: Value) -> Value {
    let (x, rows, width) = flat(b, x);
    let heads = if width.is_multiple_of(2) && width > 0 { 2 } else { 1 };
    let x = b.graph.reshape(x, [rows, heads, width / heads]);
    let middle = b.data.below(rows + 1) as i32;
    let offsets = b.integers([3], vec![0, middle, rows as i32]);
    let ranges = b.integers([2, 2], vec![0, middle, middle, rows as i32 - middle]);
    let keys = KeySet { causal: true, ..KeySet::default() };
    let rows_of = KeyRows::Ranges { query_offsets: offsets, key_ranges: ranges };
    let operands = AttentionOperands::new(x, [x, x], rows_of);
    let op = Attention { scale: 0.5, keys, ..Attention::default() };
    let y = b.graph.attention(op, operands);
    b.graph.reshape(y, [rows, width])
}

/// A cache that the value's rows are written to, and attention over it.
fn cached_attention(b: &mut Builder, x: Value) -> Vec<Value> {
    let (x, rows, width) = flat(b, x);
    let x = b.graph.reshape(x, [rows, 1, width]);
    let cache_rows = rows + 3;
    let before = b.data.tensor(b.dtype, &Shape::new(&[cache_rows, 1, width]), 1.0);
    let state = b.state(before);
    let distinct = b.data.distinct(rows, cache_rows);
    let new_rows = b.indices(cache_rows, [rows], distinct);
    let keys = b.graph.write_rows(state, x, new_rows);
    let lengths: Vec<usize> = (0..rows).map(|_| b.data.below(5)).collect();
    let table = row_tables(&mut b.data, &lengths, 4, cache_rows);
    let table = b.indices(cache_rows, [rows, 4], table);
    let lengths = b.indices(5, [rows], lengths.into_iter().map(|length| length as i32).collect());
    let set = KeySet { lookup: KeyLookup::Table, ..KeySet::default() };
    let op = Attention { scale: 0.5, keys: set, ..Attention::default() };
    let rows_of = KeyRows::Table { row_table: table, lengths };
    let y = b.graph.attention(op, AttentionOperands::new(x, [keys, keys], rows_of));
    vec![b.graph.reshape(y, [rows, width])]
}

/// Arithmetic of parameters alone, which is folded, added to the value.
fn static_arithmetic(b: &mut Builder, x: Value) -> Value {
    let d = b.graph.shape(x).last_extent();
    let weight = b.weight([d, 3], 1.0);
    let transposed = b.graph.permute(weight, &[1, 0]);
    let square = b.graph.matmul(transposed, weight);
    let row = b.graph.reshape(square, [9]);
    let first = b.graph.slice(row, 0, b.data.clone().below(9), 1);
    let small = b.graph.tanh(first);
    let small =
        if b.graph.shape(x).is_empty() { b.graph.reshape(small, Shape::default()) } else { small };
    b.graph.add(x, small)
}
