//! The row-wise fused ops.

use super::{Family, Range, Sameness, basics, extent, shape, tensor};
use crate::fused::{
    Activation, Embedding, EmbeddingOperands, Linear, LinearOperands, Precision, TopLogits,
    TopLogitsOperands, TopOfLinear, TopOfLinearOperands,
};
use crate::testing::{Builder, Recipe};
use crate::{DType, Value};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;

pub(super) fn families(range: &Range) -> Vec<Family> {
    vec![
        Family::new("Linear", Sameness::Bounds, linear(range)),
        Family::new("LayerNorm", Sameness::Bits, norm(range, true)),
        Family::new("RmsNorm", Sameness::Bits, norm(range, false)),
        Family::new("Softmax", Sameness::Bits, softmax(range)),
        Family::new("Activate", Sameness::Bits, activate(range)),
        Family::new("Embedding", Sameness::Bits, embedding(range)),
        Family::new("TopLogProbabilities", Sameness::Bits, top_log_probabilities(range)),
        Family::new("TopOfLinear", Sameness::Bounds, top_of_linear(range)),
        Family::new("TopLogits", Sameness::Bounds, top_logits(range)),
    ]
}

fn linear(range: &Range) -> BoxedStrategy<Recipe> {
    let activation = proptest::option::of(select(&Activation::ALL[..]));
    let sizes = (prop_oneof![extent(range, 70), 0..4usize], extent(range, 600), extent(range, 90));
    (basics(range), sizes, any::<[bool; 3]>(), (activation, precision()))
        .prop_map(|((dtype, seed), (m, k, n), [bias, residual, deep], (activation, precision))| {
            let op = Linear { bias, activation, residual, precision };
            let description = format!("{op:?} {m}×{k}×{n}, three axes {deep}");
            Recipe::new(description, dtype, seed, move |b| {
                let outer: Vec<usize> = if deep { vec![2, m / 2] } else { vec![m] };
                let with = |n: usize| -> Vec<usize> { outer.iter().copied().chain([n]).collect() };
                let scale = 1.0 / (k.max(1) as f64).sqrt();
                let operands = LinearOperands {
                    x: b.floats(&with(k)[..], 1.0),
                    weight: b.weight([n, k], 2.0 * scale),
                    bias: bias.then(|| b.weight([n], 1.0)),
                    residual: residual.then(|| b.floats(&with(n)[..], 1.0)),
                };
                let y = b.graph.fused(op, &operands.list());
                b.graph.output(y);
            })
        })
        .boxed()
}

/// Full as often as all others together.
pub(super) fn precision() -> impl Strategy<Value = Precision> {
    select(vec![Precision::Full, Precision::Full, Precision::BFloat16, Precision::Int8])
}

/// Layer norm if it is `centred`, else RMS norm.
fn norm(range: &Range, centred: bool) -> BoxedStrategy<Recipe> {
    (
        basics(range),
        extent(range, 20),
        extent(range, 600),
        select(vec![1e-12, 1e-6, 1e-5]),
        -3.0..3.0,
    )
        .prop_map(move |((dtype, seed), rows, d, epsilon, mean)| {
            let name = if centred { "layer" } else { "RMS" };
            let description = format!("{name} norm of {rows}×{d}, ε {epsilon}, mean about {mean}");
            Recipe::new(description, dtype, seed, move |b| {
                let mut values: Vec<f64> =
                    (0..rows * d).map(|_| b.data.number(1.0) + mean).collect();
                if rows > 2 && b.data.once_in(4) {
                    values[d..2 * d].fill(mean); // a row without variance
                }
                let x = b.values([rows, d], values);
                let weight = b.weight([d], 2.0);
                let y = if centred {
                    let bias = b.weight([d], 1.0);
                    b.graph.layer_norm(x, weight, bias, epsilon)
                } else {
                    b.graph.rms_norm(x, weight, epsilon)
                };
                b.graph.output(y);
            })
        })
        .boxed()
}

fn softmax(range: &Range) -> BoxedStrategy<Recipe> {
    (
        basics(range),
        extent(range, 20),
        extent(range, 600),
        any::<bool>(),
        select(vec![1.0, 30.0, 1000.0]),
    )
        .prop_map(|((dtype, seed), rows, n, log, scale)| {
            let description = format!("softmax of {rows}×{n}, log {log}, scale {scale}");
            Recipe::new(description, dtype, seed, move |b| {
                let mut values: Vec<f64> = (0..rows * n).map(|_| b.data.number(scale)).collect();
                for (index, value) in values.iter_mut().enumerate() {
                    // Some are hidden; the first of a row never, so that something is left.
                    if index % n != 0 && b.data.once_in(16) {
                        *value = f64::NEG_INFINITY;
                    }
                }
                let x = b.values([rows, n], values);
                let y = if log { b.graph.log_softmax(x) } else { b.graph.softmax(x) };
                b.graph.output(y);
            })
        })
        .boxed()
}

fn activate(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), select(&Activation::ALL[..]), shape(range, 9), select(vec![1.0, 6.0, 100.0]))
        .prop_map(|((dtype, seed), activation, shape, scale)| {
            let description = format!("{activation:?} of {shape:?}, scale {scale}");
            Recipe::new(description, dtype, seed, move |b| {
                let x = b.floats(&shape[..], scale);
                let y = b.graph.activate(activation, x);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn embedding(range: &Range) -> BoxedStrategy<Recipe> {
    (
        basics(range),
        (0..70usize, 1..50usize, 1..40usize),
        extent(range, 130),
        (any::<bool>(), precision()),
        0.5..30.0,
    )
        .prop_map(|((dtype, seed), (t, v, p), d, (positions, precision), scale)| {
            let op = Embedding { scale, positions, precision, unlearnt: None };
            let description = format!("{op:?} of {t} of {v}×{d}, {p} positions");
            Recipe::new(description, dtype, seed, move |b| {
                let indices = |b: &mut crate::testing::Builder, bound: usize| {
                    let data = (0..t).map(|_| b.data.below(bound) as i32).collect();
                    b.indices(bound, [t], data)
                };
                let ids = indices(b, v);
                let table = b.weight([v, d], 0.2);
                let (positions, position_table) =
                    positions.then(|| (indices(b, p), b.weight([p, d], 1.0))).unzip();
                let operands = EmbeddingOperands { ids, table, positions, position_table };
                let y = b.graph.fused(op, &operands.list());
                b.graph.output(y);
            })
        })
        .boxed()
}

fn top_log_probabilities(range: &Range) -> BoxedStrategy<Recipe> {
    let sizes = (extent(range, 20), extent(range, 600), prop_oneof![1..=8usize, 0..600usize]);
    (basics(range), sizes, any::<bool>(), select(vec![1.0, 20.0, 2000.0]))
        .prop_map(|((dtype, seed), (n, v, k), coarse, scale)| {
            let (k, coarse) = (k.min(v), coarse && dtype == DType::F32);
            let description = format!("top {k} of {n}×{v}, coarse {coarse}, scale {scale}");
            Recipe::new(description, dtype, seed, move |b| {
                let logit = |b: &mut crate::testing::Builder| match coarse {
                    true => b.data.below(30) as f64 - 15.0, // with ties
                    false => b.data.number(scale),
                };
                let logits = (0..n * v).map(|_| logit(b)).collect();
                let logits = b.values([n, v], logits);
                let bias = |b: &mut crate::testing::Builder| match b.data.below(8) {
                    0 => f64::NEG_INFINITY,
                    1 if !coarse => b.data.number(1.0),
                    _ => 0.0,
                };
                let bias = (0..v).map(|_| bias(b)).collect();
                let bias = tensor(b.dtype, &[v], bias);
                let bias = b.weight_of(bias);
                let (values, ids) = b.graph.top_log_probabilities(logits, bias, k);
                b.graph.output(values);
                if coarse {
                    b.graph.output(ids);
                }
                // Near-ties may change places, so the ids are judged by what they name.
                named(b, logits, bias, ids);
            })
        })
        .boxed()
}

/// So many tokens that some backends look at them in parts.
fn vocabulary(range: &Range) -> BoxedStrategy<usize> {
    if range.tiny { extent(range, 1) } else { prop_oneof![1..700usize, 1..3000usize].boxed() }
}

fn top_of_linear(range: &Range) -> BoxedStrategy<Recipe> {
    let sizes = (extent(range, 20), vocabulary(range), extent(range, 60), 0..=9usize);
    (basics(range), sizes, any::<bool>(), precision())
        .prop_map(|((dtype, seed), (n, v, d, k), bias, precision)| {
            let op = TopOfLinear { bias, k: k.min(v), precision };
            let description = format!("{op:?} of {n}×{v}, from {d}");
            Recipe::new(description, dtype, seed, move |b| {
                let x = b.floats([n, d], 1.0);
                let weight = b.weight([v, d], 1.0);
                let bias = bias.then(|| b.weight([v], 2.0));
                let bans = bans(b, v);
                let operands = TopOfLinearOperands { x, weight, bias, bans };
                let top = b.graph.fused_all(op, &operands.list());
                b.graph.output(top[0]);
                // Near-ties may change places, so the ids are judged by what they name.
                let logits = logits(b, precision, x, weight, bias);
                named(b, logits, bans, top[1]);
            })
        })
        .boxed()
}

/// Bans of some of v tokens, and what makes others more or less likely.
fn bans(b: &mut Builder, v: usize) -> Value {
    let ban = |b: &mut Builder| match b.data.below(8) {
        0 => f64::NEG_INFINITY,
        1 => b.data.number(1.0),
        _ => 0.0,
    };
    let bans = (0..v).map(|_| ban(b)).collect();
    b.weight_of(tensor(DType::F32, &[v], bans))
}

fn top_logits(range: &Range) -> BoxedStrategy<Recipe> {
    let sizes = (extent(range, 20), vocabulary(range), extent(range, 60), 0..=9usize);
    (basics(range), sizes, any::<[bool; 2]>(), precision())
        .prop_map(|((dtype, seed), (n, v, d, k), [bias, screened], precision)| {
            let op = TopLogits { bias, k: k.min(v), precision, screened };
            let description = format!("{op:?} of {n}×{v}, from {d}");
            Recipe::new(description, dtype, seed, move |b| {
                let (x, weight) = (b.floats([n, d], 1.0), b.weight([v, d], 1.0));
                let bias = bias.then(|| b.weight([v], 2.0));
                let bans = bans(b, v);
                let screen = screened.then_some(weight);
                let operands = TopLogitsOperands { x, weight, screen, bias, bans };
                let top = b.graph.fused_all(op, &operands.list());
                b.graph.output(top[0]);
                // Near-ties may change places, so the ids are judged by what they name.
                let logits = logits(b, precision, x, weight, bias);
                let all = b.graph.add(logits, bans);
                named_of(b, all, top[1]);
            })
        })
        .boxed()
}

/// The logits of a projection to a vocabulary, in `F32`.
pub(super) fn logits(
    b: &mut Builder,
    precision: Precision,
    x: Value,
    weight: Value,
    bias: Option<Value>,
) -> Value {
    let linear = Linear { bias: bias.is_some(), precision, ..Linear::default() };
    let operands = LinearOperands { x, weight, bias, residual: None };
    let logits = b.graph.fused(linear, &operands.list());
    b.graph.cast(logits, DType::F32)
}

/// Adds an output: the entries of `log softmax(logits) + bias` that `ids [n, k]` name.
pub(super) fn named(b: &mut Builder, logits: Value, bias: Value, ids: Value) {
    let all = b.graph.log_softmax(logits);
    let all = b.graph.add(all, bias);
    named_of(b, all, ids);
}

/// Adds an output: the entries of `all [n, v]` that `ids [n, k]` name.
fn named_of(b: &mut Builder, all: Value, ids: Value) {
    let (n, v) = (b.graph.shape(all)[0], b.graph.shape(all)[1]);
    let all = b.graph.reshape(all, [n * v]);
    let rows = b.graph.iota(n);
    let width = b.graph.constant(v as f64, DType::I32);
    let starts = b.graph.mul(rows, width);
    let starts = b.graph.reshape(starts, [n, 1]);
    let places = b.graph.add(starts, ids);
    let named = b.graph.gather(all, places);
    b.graph.output(named);
}
