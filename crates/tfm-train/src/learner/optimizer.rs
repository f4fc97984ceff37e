//! Optimisers, as graph ops.

use tfm_core::fused::{Adam, AdamInPlace, AdamOperands};
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
    graph: &mut Graph,
    parameter: Value,
    gradient: Value,
    kept: &[Value],
    Shared { rates, scale }: Shared,
    [epsilon, clip, weight_decay]: [f64; 3],
) -> Value {
    let g = graph.equations();
    let [parameter, gradient, rates, scale] = [parameter, gradient, rates, scale].map(|x| g.of(x));
    let [rate, beta] = [0, 1].map(|i| rates.slice(0, i, 1).reshape(Shape::default()));
    let rest = 1.0 - beta;
    let gradient = gradient * scale;
    let square = gradient * gradient + epsilon;
    let is_number = scale.equal(scale);
    let mut averages = Vec::new();
    for (axis, &old) in [1, 0].into_iter().zip(kept) {
        let old = g.of(old);
        let new = if kept.len() == 2 { square.mean(axis) } else { square };
        averages.push((old, old * beta + new * rest));
    }
    let estimate = match averages[..] {
        [(_, rows), (_, columns)] => rows / rows.mean(0) * columns,
        _ => averages[0].1,
    };
    let update = gradient / estimate.sqrt();
    let elements = update.shape().elements().max(1);
    let total = g.add(|graph| graph.sum_of_squares(update.value()));
    let size = (total * (1.0 / elements as f64)).sqrt() * (1.0 / clip);
    let mut update = update / size.max(g.constant(1.0, DType::F32));
    if weight_decay != 0.0 {
        update = update + parameter * weight_decay;
    }
    let new = parameter - update * rate;
    for (old, new) in averages {
        old.replace(is_number.select(new, old));
    }
    parameter.replace(is_number.select(new, parameter)).value()
}
