//! Optimisers, as graph ops.

use tfm_core::fused::{Adam, AdamInPlace, AdamOperands};
use tfm_core::op::ReduceOp;
use tfm_core::{DType, Graph, Shape, Value};

/// An optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Adam, or AdamW with a weight decay.
    Adam(Adam),
    /// Adafactor (Shazeer and Stern 2018, algorithm 4), without momentum and with the schedule's
    /// learning rate.
    Adafactor {
        /// ε₁, added to squared gradients.
        epsilon: f64,
        /// d: the largest root mean square of an update.
        clip: f64,
        /// λ, decoupled.
        weight_decay: f64,
    },
}

/// A state that a rule keeps for a parameter: the prefix of its name, and its shape.
pub(super) type Kept = (&'static str, Shape);

/// The values that every update reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    /// `[3]`: the learning rate, and two numbers of the rule; see [`Rule::rates`].
    pub(super) rates: Value,
    /// The factor of gradients; NaN where nothing may change.
    pub(super) scale: Value,
}

impl Rule {
    /// The states that the rule keeps for a parameter of this shape; all begin as 0.
    pub(super) fn kept(&self, shape: &Shape) -> Vec<Kept> {
        match self {
            Rule::Adam(_) => {
                vec![("first_moment", shape.clone()), ("second_moment", shape.clone())]
            }
            Rule::Adafactor { .. } => match shape[..] {
                [rows, columns] => {
                    vec![("row_mean", [rows, 1].into()), ("column_mean", [1, columns].into())]
                }
                _ => vec![("second_moment", shape.clone())],
            },
        }
    }

    /// The numbers of update `t`, counted from 1: the learning rate; then for Adam `1/(1 − β₁ᵗ)`
    /// and `1/(1 − β₂ᵗ)`, for Adafactor `β₂ₜ = 1 − t^−0.8` and 0.
    pub(super) fn rates(&self, learning_rate: f64, t: u64) -> [f32; 3] {
        let numbers = match self {
            Rule::Adam(adam) => {
                let correction = |beta: f64| 1.0 / (1.0 - beta.powf(t as f64));
                [learning_rate, correction(adam.beta1), correction(adam.beta2)]
            }
            Rule::Adafactor { .. } => [learning_rate, 1.0 - (t as f64).powf(-0.8), 0.0],
        };
        numbers.map(|number| number as f32)
    }

    /// Adds the update of one parameter, and returns its new value. `kept` are the states of
    /// [`Rule::kept`].
    pub(super) fn update(
        &self,
        graph: &mut Graph,
        parameter: Value,
        gradient: Value,
        kept: &[Value],
        shared: Shared,
    ) -> Value {
        match *self {
            Rule::Adam(op) => {
                let Shared { rates, scale } = shared;
                let (first_moment, second_moment) = (kept[0], kept[1]);
                let changed = AdamInPlace { parameter, first_moment, second_moment };
                graph.adam(op, changed, AdamOperands { gradient, rates, scale }).parameter
            }
            Rule::Adafactor { epsilon, clip, weight_decay } => {
                adafactor(graph, parameter, gradient, kept, shared, [epsilon, clip, weight_decay])
            }
        }
    }
}

fn adafactor(
    g: &mut Graph,
    parameter: Value,
    gradient: Value,
    kept: &[Value],
    Shared { rates, scale }: Shared,
    [epsilon, clip, weight_decay]: [f64; 3],
) -> Value {
    let [rate, beta] = [0, 1].map(|i| {
        let one = g.slice(rates, 0, i, 1);
        g.reshape(one, Shape::default())
    });
    let rest = g.not(beta);
    let gradient = g.mul(gradient, scale);
    let square = g.mul(gradient, gradient);
    let square = g.shift(square, epsilon);
    let is_number = g.equal(scale, scale);
    let mut averages = Vec::new();
    for (axis, &old) in [1, 0].into_iter().zip(kept) {
        let new = if kept.len() == 2 { mean(g, square, axis) } else { square };
        let (before, now) = (g.mul(old, beta), g.mul(new, rest));
        averages.push((old, g.add(before, now)));
    }
    let estimate = match averages[..] {
        [(_, rows), (_, columns)] => {
            let all = mean(g, rows, 0);
            let share = g.div(rows, all);
            g.mul(share, columns)
        }
        _ => averages[0].1,
    };
    let deviation = g.sqrt(estimate);
    let update = g.div(gradient, deviation);
    let elements = g.shape(update).elements().max(1);
    let total = g.sum_of_squares(update);
    let square_mean = g.scale(total, 1.0 / elements as f64);
    let size = g.sqrt(square_mean);
    let size = g.scale(size, 1.0 / clip);
    let one = g.constant(1.0, DType::F32);
    let size = g.max(size, one);
    let mut update = g.div(update, size);
    if weight_decay != 0.0 {
        let decay = g.scale(parameter, weight_decay);
        update = g.add(update, decay);
    }
    let step = g.mul(update, rate);
    let new = g.sub(parameter, step);
    for (old, new) in averages {
        let new = g.select(is_number, new, old);
        g.replace(old, new);
    }
    let new = g.select(is_number, new, parameter);
    g.replace(parameter, new)
}

fn mean(g: &mut Graph, x: Value, axis: usize) -> Value {
    let extent = g.shape(x)[axis].max(1);
    let sum = g.reduce(ReduceOp::Sum, x, axis);
    g.scale(sum, 1.0 / extent as f64)
}
