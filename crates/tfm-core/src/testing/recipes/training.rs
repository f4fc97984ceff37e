//! The fused ops of training.

use super::{Family, Range, Sameness, basics, extent, shape};
use crate::fused::{
    ActivateGradient, ActivateGradientOperands, Activation, Adam, AdamInPlace, AdamOperands,
    CrossEntropy, CrossEntropyGradient, CrossEntropyGradientInPlace, CrossEntropyGradientOperands,
    CrossEntropyOperands, DropoutMask, LayerNormGradient, LayerNormGradientOperands,
    RmsNormGradient, RmsNormGradientOperands,
};
use crate::testing::{Builder, Recipe};
use crate::{DType, Shape, Tensor, Value};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;

pub(super) fn families(range: &Range) -> Vec<Family> {
    vec![
        Family::new("LayerNormGradient", Sameness::Bounds, norm_gradient(range, true)),
        Family::new("RmsNormGradient", Sameness::Bounds, norm_gradient(range, false)),
        Family::new("ActivateGradient", Sameness::Bits, activate_gradient(range)),
        Family::new("Dropout", Sameness::Bits, dropout(range)),
        Family::new("CrossEntropy", Sameness::Bits, cross_entropy(range)),
        Family::new("CrossEntropyGradient", Sameness::Bits, cross_entropy_gradient(range)),
        Family::new("SumOfSquares", Sameness::Bounds, sum_of_squares(range)),
        Family::new("Adam", Sameness::Bits, adam(range)),
    ]
}

/// Of layer norm if it is `centred`, else of RMS norm.
fn norm_gradient(range: &Range, centred: bool) -> BoxedStrategy<Recipe> {
    (basics(range), extent(range, 70), extent(range, 300), select(vec![1e-6, 1e-5, 1e-2]))
        .prop_map(move |((dtype, seed), rows, d, epsilon)| {
            let description =
                format!("gradient of a norm of {rows}×{d}, centred {centred}, ε {epsilon}");
            Recipe::new(description, dtype, seed, move |b| {
                let x = b.data.tensor(b.dtype, &Shape::from([rows, d]), 1.0);
                let (x, dy) = (b.tensor(x), b.floats([rows, d], 1.0));
                let weight = b.weight([d], 2.0);
                let results = if centred {
                    let operands = LayerNormGradientOperands { x, weight, dy };
                    b.graph.fused_all(LayerNormGradient { epsilon }, &operands.list())
                } else {
                    let operands = RmsNormGradientOperands { x, weight, dy };
                    b.graph.fused_all(RmsNormGradient { epsilon }, &operands.list())
                };
                results.into_iter().for_each(|result| b.graph.output(result));
            })
        })
        .boxed()
}

fn activate_gradient(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), select(&Activation::ALL[..]), shape(range, 9), select(vec![1.0, 6.0]))
        .prop_map(|((dtype, seed), activation, shape, scale)| {
            let description = format!("gradient of {activation:?} of {shape:?}, scale {scale}");
            Recipe::new(description, dtype, seed, move |b| {
                let (x, dy) = (b.floats(&shape[..], scale), b.floats(&shape[..], 1.0));
                let operands = ActivateGradientOperands { x, dy };
                let dx = b.graph.fused(ActivateGradient(activation), &operands.list());
                b.graph.output(dx);
            })
        })
        .boxed()
}

/// A key of random numbers.
pub(super) fn key(b: &mut Builder) -> Value {
    let key = (0..3).map(|_| b.data.below(1 << 31) as i32).collect();
    b.integers([3], key)
}

/// A share to drop, and a stream.
pub(super) fn mask() -> BoxedStrategy<DropoutMask> {
    (select(vec![0.0f32, 0.1, 0.25, 0.5, 0.9]), any::<u32>())
        .prop_map(|(rate, stream)| DropoutMask { rate, stream })
        .boxed()
}

fn dropout(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), mask(), shape(range, 9), any::<bool>())
        .prop_map(|((dtype, seed), mask, shape, residual)| {
            let description = format!("{mask:?} of {shape:?}, residual {residual}");
            Recipe::new(description, dtype, seed, move |b| {
                let x = b.floats(&shape[..], 1.0);
                let key = key(b);
                let residual = residual.then(|| b.floats(&shape[..], 1.0));
                let y = b.graph.dropout(mask, x, key, residual);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn logits_and_targets(b: &mut Builder, t: usize, v: usize) -> (Value, Value) {
    let logits = b.data.tensor(b.dtype, &Shape::from([t, v]), 6.0);
    let logits = b.tensor(logits);
    let targets = (0..t).map(|_| b.data.below(v) as i32).collect();
    (logits, b.indices(v, [t], targets))
}

fn cross_entropy(range: &Range) -> BoxedStrategy<Recipe> {
    let v = extent(range, 300).prop_map(|v| v.max(1));
    (basics(range), extent(range, 30), v, select(vec![0.0, 0.1, 0.5]))
        .prop_map(|((dtype, seed), t, v, smoothing)| {
            let description = format!("cross-entropy of {t}×{v}, ε {smoothing}");
            Recipe::new(description, dtype, seed, move |b| {
                let (logits, targets) = logits_and_targets(b, t, v);
                let operands = CrossEntropyOperands { logits, targets };
                let results = b.graph.fused_all(CrossEntropy { smoothing }, &operands.list());
                results.into_iter().for_each(|result| b.graph.output(result));
            })
        })
        .boxed()
}

fn cross_entropy_gradient(range: &Range) -> BoxedStrategy<Recipe> {
    let v = extent(range, 300).prop_map(|v| v.max(1));
    (basics(range), extent(range, 30), v, select(vec![0.0, 0.1, 0.5]), any::<bool>())
        .prop_map(|((dtype, seed), t, v, smoothing, kept)| {
            let description =
                format!("gradient of cross-entropy of {t}×{v}, ε {smoothing}, logits kept {kept}");
            Recipe::new(description, dtype, seed, move |b| {
                let (logits, targets) = logits_and_targets(b, t, v);
                // Made here, so that there is memory to take over.
                let logits = b.graph.scale(logits, 0.5);
                let operands = CrossEntropyOperands { logits, targets };
                let sums = b.graph.fused_all(CrossEntropy { smoothing }, &operands.list());
                let log_sum_exp = sums.get(1).copied().unwrap_or(sums[0]);
                let d_loss = b.data.tensor(DType::F32, &Shape::from([t]), 1.0);
                let d_loss = b.tensor(d_loss);
                let op = CrossEntropyGradient { smoothing };
                let read = CrossEntropyGradientOperands { targets, log_sum_exp, d_loss };
                let operands = CrossEntropyGradientInPlace { logits }.with(read);
                let gradient = b.graph.fused(op, &operands);
                b.graph.output(gradient);
                if kept {
                    b.graph.output(logits);
                }
            })
        })
        .boxed()
}

fn sum_of_squares(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), shape(range, 9))
        .prop_map(|((dtype, seed), shape)| {
            Recipe::new(format!("sum of squares of {shape:?}"), dtype, seed, move |b| {
                let x = b.floats(&shape[..], 1.0);
                let y = b.graph.sum_of_squares(x);
                b.graph.output(y);
            })
        })
        .boxed()
}

/// Always in `F32`, on states or on values.
fn adam(range: &Range) -> BoxedStrategy<Recipe> {
    let decay = select(vec![0.0, 0.01]);
    (basics(range), extent(range, 20), extent(range, 70), decay, any::<[bool; 2]>())
        .prop_map(|((_, seed), rows, columns, weight_decay, [states, kept])| {
            let description =
                format!("Adam on {rows}×{columns}, λ {weight_decay}, states {states}");
            Recipe::new(description, DType::F32, seed, move |b| {
                let shape = Shape::from([rows, columns]);
                let operand = |b: &mut Builder, tensor: Tensor| match states {
                    true => b.state(tensor),
                    false => b.tensor(tensor),
                };
                let drawn = |b: &mut Builder| b.data.tensor(DType::F32, &shape, 1.0);
                let (parameter, m) = (drawn(b), drawn(b));
                let squares = drawn(b).to_f64().into_iter().map(|x| x as f32 * x as f32 + 0.01);
                let v = Tensor::from_f32(shape.clone(), squares.collect()).expect("as drawn");
                let [parameter, m, v] = [parameter, m, v].map(|tensor| operand(b, tensor));
                let gradient = b.floats(shape.clone(), 1.0);
                let rates = Tensor::from_f32([3], vec![0.01, 1.5, 2.5]).expect("three");
                let (rates, scale) = (b.tensor(rates), b.values(Shape::default(), vec![0.75]));
                let op = Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-6, weight_decay };
                let changed = AdamInPlace { parameter, first_moment: m, second_moment: v };
                let results = b.graph.adam(op, changed, AdamOperands { gradient, rates, scale });
                results.list().into_iter().for_each(|result| b.graph.output(result));
                if kept && !states {
                    b.graph.output(m);
                }
            })
        })
        .boxed()
}
