//! Element-wise ops, reductions, products and movement.

use super::{Family, Range, Sameness, basics, dtype, extent, shape};
use crate::DType;
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::testing::{Builder, Recipe};
use crate::{Shape, Value};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;

pub(super) fn families(range: &Range) -> Vec<Family> {
    vec![
        Family::new("unary", Sameness::Bits, unary(range)),
        Family::new("binary", Sameness::Bits, binary(range)),
        Family::new("select", Sameness::Bits, pick(range)),
        Family::new("cast", Sameness::Bits, cast(range)),
        Family::new("constant, iota and random", Sameness::Bits, sources(range)),
        Family::new("reduce", Sameness::Bounds, reduce(range)),
        Family::new("matmul", Sameness::Bounds, matmul(range)),
        Family::new("movement", Sameness::Bits, movement(range)),
    ]
}

/// Integers around 0, or floats.
fn operand(b: &mut Builder, shape: &[usize], is_integer: bool, scale: f64) -> Value {
    if !is_integer {
        return b.floats(shape, scale);
    }
    let elements = Shape::new(shape).elements();
    let data = (0..elements).map(|_| b.data.below(41) as i32 - 20).collect();
    b.integers(shape, data)
}

fn unary(range: &Range) -> BoxedStrategy<Recipe> {
    let integers = any::<bool>();
    (basics(range), select(&UnaryOp::ALL[..]), shape(range, 9), integers)
        .prop_map(|((dtype, seed), op, shape, integers)| {
            let is_integer = integers && op.takes_integers();
            Recipe::new(
                format!("{op:?} of {shape:?}, integers {is_integer}"),
                dtype,
                seed,
                move |b| {
                    let mut x = operand(b, &shape, is_integer, 8.0);
                    match op {
                        UnaryOp::Sqrt => x = b.graph.abs(x),
                        UnaryOp::Log | UnaryOp::Reciprocal => {
                            x = b.graph.abs(x);
                            x = b.graph.shift(x, 0.0625);
                        }
                        _ => {}
                    }
                    let y = b.graph.unary(op, x);
                    b.graph.output(y);
                },
            )
        })
        .boxed()
}

fn binary(range: &Range) -> BoxedStrategy<Recipe> {
    let repeats = (any::<u8>(), any::<u8>());
    (basics(range), select(&BinaryOp::ALL[..]), shape(range, 9), repeats, any::<bool>())
        .prop_map(|((dtype, seed), op, shape, repeats, is_integer)| {
            let description =
                format!("{op:?} of {shape:?}, repeats {repeats:?}, integers {is_integer}");
            Recipe::new(description, dtype, seed, move |b| {
                // Operands may be shorter (leading axes missing) or have axes of extent 1.
                let part = |mask: u8| -> Vec<usize> {
                    let skipped = usize::from(mask >> 6).min(shape.len());
                    let axes = shape.iter().enumerate().skip(skipped);
                    axes.map(|(axis, &n)| if mask >> axis & 1 == 1 && n > 0 { 1 } else { n })
                        .collect()
                };
                let left = operand(b, &shape, is_integer, 4.0);
                let mut right = operand(b, &part(repeats.0 & repeats.1), is_integer, 4.0);
                if op == BinaryOp::Div && !is_integer {
                    right = b.graph.abs(right);
                    right = b.graph.shift(right, 0.25);
                }
                let y = b.graph.binary(op, left, right);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn pick(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), shape(range, 9), any::<bool>(), any::<bool>())
        .prop_map(|((dtype, seed), shape, integer_condition, is_integer)| {
            let description =
                format!("select of {shape:?}, integers: condition {integer_condition}, operands {is_integer}");
            Recipe::new(description, dtype, seed, move |b| {
                let elements = Shape::new(&shape).elements();
                let truth: Vec<i32> = (0..elements).map(|_| b.data.below(3) as i32 - 1).collect();
                let condition = if integer_condition {
                    b.integers(&shape[..], truth)
                } else {
                    b.values(&shape[..], truth.into_iter().map(f64::from).collect())
                };
                let left = operand(b, &shape, is_integer, 4.0);
                let right = operand(b, &shape, is_integer, 4.0);
                let y = b.graph.select(condition, left, right);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn cast(range: &Range) -> BoxedStrategy<Recipe> {
    let any_type = prop_oneof![3 => dtype(range), 1 => Just(DType::I32)];
    (basics(range), any_type, shape(range, 9), any::<bool>())
        .prop_map(|((dtype, seed), to, shape, is_integer)| {
            let description = format!("cast of {shape:?} to {to}, integers {is_integer}");
            Recipe::new(description, dtype, seed, move |b| {
                let x = operand(b, &shape, is_integer, 300.0);
                let y = b.graph.cast(x, to);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn sources(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), extent(range, 300), any::<[i32; 3]>(), any::<u32>(), -1e3..1e3)
        .prop_map(|((dtype, seed), n, key, stream, number)| {
            let description = format!("{n} of iota, random {key:?} {stream} and constant {number}");
            Recipe::new(description, dtype, seed, move |b| {
                let iota = b.graph.iota(n);
                let key = b.integers([3], key.to_vec());
                let random = b.graph.random(key, stream, [n]);
                let constant = b.graph.constant(number, b.dtype);
                let constants = b.graph.broadcast(constant, [n]);
                for value in [iota, random, constants] {
                    b.graph.output(value);
                }
            })
        })
        .boxed()
}

fn reduce(range: &Range) -> BoxedStrategy<Recipe> {
    let shapes = prop_oneof![
        3 => shape(range, 9),
        1 => (0..5usize, extent(range, 600)).prop_map(|(rows, n)| vec![rows, n]),
        1 => (extent(range, 600), 0..5usize).prop_map(|(n, columns)| vec![n, columns]),
    ];
    let op = select(vec![ReduceOp::Sum, ReduceOp::Max]);
    (basics(range), op, shapes, any::<proptest::sample::Index>(), any::<bool>())
        .prop_map(|((dtype, seed), op, mut shape, axis, is_integer)| {
            if shape.is_empty() {
                shape.push(1);
            }
            let axis = axis.index(shape.len());
            let description = format!("{op:?} of {shape:?} along {axis}, integers {is_integer}");
            Recipe::new(description, dtype, seed, move |b| {
                let x = operand(b, &shape, is_integer, 2.0);
                let y = b.graph.reduce(op, x, axis);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn matmul(range: &Range) -> BoxedStrategy<Recipe> {
    let outer = prop_oneof![2 => Just(vec![]), 2 => proptest::collection::vec(0..4usize, 1..=2)];
    let sizes = (extent(range, 70), extent(range, 600), extent(range, 70));
    (basics(range), outer, sizes, any::<bool>())
        .prop_map(|((dtype, seed), outer, (m, k, n), transposed)| {
            let k = if outer.is_empty() { k } else { k.min(80) };
            let description = format!("matmul {outer:?} {m}×{k}×{n}, transposed {transposed}");
            Recipe::new(description, dtype, seed, move |b| {
                let with = |last: [usize; 2]| -> Vec<usize> {
                    outer.iter().copied().chain(last).collect()
                };
                let left = b.floats(&with([m, k])[..], 1.0);
                let right = if transposed {
                    let right = b.floats(&with([n, k])[..], 1.0);
                    let mut order: Vec<usize> = (0..outer.len() + 2).collect();
                    order.swap(outer.len(), outer.len() + 1);
                    b.graph.permute(right, &order)
                } else {
                    b.floats(&with([k, n])[..], 1.0)
                };
                let y = b.graph.matmul(left, right);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn movement(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), shape(range, 6), 1..6usize)
        .prop_map(|((dtype, seed), shape, moves)| {
            Recipe::new(format!("{moves} moves of {shape:?}"), dtype, seed, move |b| {
                let is_integer = b.data.once_in(4);
                let mut x = operand(b, &shape, is_integer, 1.0);
                for _ in 0..moves {
                    x = moved(b, x);
                }
                b.graph.output(x);
            })
        })
        .boxed()
}

/// `x` after one movement op, chosen at random.
pub(in crate::testing) fn moved(b: &mut Builder, x: Value) -> Value {
    let shape: Vec<usize> = b.graph.shape(x).to_vec();
    let rank = shape.len();
    if rank == 0 {
        return b.graph.reshape(x, [1, 1]);
    }
    let axis = b.data.below(rank);
    match b.data.below(5) {
        0 => {
            let order: Vec<usize> =
                b.data.distinct(rank, rank).into_iter().map(|axis| axis as usize).collect();
            b.graph.permute(x, &order)
        }
        1 => {
            let start = b.data.below(shape[axis].max(1));
            // Seldom nothing, of which little can be said afterwards.
            let least = if b.data.once_in(12) { 0 } else { shape[axis].min(1) };
            let length = least + b.data.below(shape[axis] - start - least + 1);
            b.graph.slice(x, axis, start, length)
        }
        2 if rank < 4 => {
            let rows = 1 + b.data.below(3);
            let all: Shape = [rows].into_iter().chain(shape).collect();
            b.graph.broadcast(x, all)
        }
        3 => {
            let other = b.graph.slice(x, axis, 0, shape[axis] / 2);
            b.graph.concat(axis, &[other, x, other])
        }
        _ => {
            // Two axes as one, or one as two.
            let mut new = shape.clone();
            if axis + 1 < rank {
                new[axis] *= new.remove(axis + 1);
            } else if shape[axis].is_multiple_of(2) && rank < 4 {
                new[axis] /= 2;
                new.push(2);
            }
            b.graph.reshape(x, &new[..])
        }
    }
}
