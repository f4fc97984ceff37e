//! Adam, on a parameter in place.

use super::{FusedOp, Operand, Results, Values, expect_inputs, expect_shape};
use crate::{DType, Graph, Shape, Value};

/// One update of a parameter p with its gradient (Kingma and Ba 2015, algorithm 1; with decoupled weight
/// decay, Loshchilov and Hutter 2019, algorithm 2):
///
/// `g = s·gradient`, `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`,
/// `p ← p − η·(c₁m/(√(c₂v) + ε) + λp)`.
///
/// Inputs: `parameter`, `gradient`, `first_moment` (m), `second_moment` (v), all of one shape of at least one
/// axis; `rates [3]`: η, `c₁ = 1/(1 − β₁ᵗ)`, `c₂ = 1/(1 − β₂ᵗ)`; `scale`, a scalar: s. All in `F32`. Outputs:
/// parameter, m and v, in their operands' places. Where the scale is NaN nothing changes: a training step
/// whose gradient is not finite leaves the model as it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// λ.
    pub weight_decay: f64,
}

impl FusedOp for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let names = ["parameter", "gradient", "first_moment", "second_moment", "rates", "scale"];
        expect_inputs(inputs, &names)?;
        for (what, operand) in names.iter().zip(inputs) {
            if operand.dtype != DType::F32 {
                return Err(format!("{what} must be f32, is {}", operand.dtype));
            }
        }
        let shape = inputs[0].shape;
        if shape.is_empty() {
            return Err("parameter must have an axis".into());
        }
        for (what, operand) in names.iter().zip(inputs).take(4).skip(1) {
            expect_shape(what, *operand, shape)?;
        }
        expect_shape("rates", inputs[4], &[3])?;
        expect_shape("scale", inputs[5], &Shape::default())?;
        Ok((0..3).map(|_| (shape.clone(), DType::F32)).collect())
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let [parameter, gradient, m, v, rates, scale] = [0, 1, 2, 3, 4, 5].map(|i| inputs[i]);
        let [rate, first, second] = [0, 1, 2].map(|i| {
            let one = graph.slice(rates, 0, i, 1);
            graph.reshape(one, Shape::default())
        });
        let g = graph.mul(gradient, scale);
        let square = graph.mul(g, g);
        let mut average = |old: Value, new: Value, beta: f64| {
            let (old, new) = (graph.scale(old, beta), graph.scale(new, 1.0 - beta));
            graph.add(old, new)
        };
        let (new_m, new_v) = (average(m, g, self.beta1), average(v, square, self.beta2));
        let corrected_m = graph.mul(new_m, first);
        let corrected_v = graph.mul(new_v, second);
        let deviation = graph.sqrt(corrected_v);
        let denominator = graph.shift(deviation, self.epsilon);
        let mut direction = graph.div(corrected_m, denominator);
        if self.weight_decay != 0.0 {
            let decay = graph.scale(parameter, self.weight_decay);
            direction = graph.add(direction, decay);
        }
        let step = graph.mul(direction, rate);
        let new_parameter = graph.sub(parameter, step);
        let is_number = graph.equal(scale, scale);
        [(parameter, new_parameter), (m, new_m), (v, new_v)]
            .into_iter()
            .map(|(old, new)| {
                let new = graph.select(is_number, new, old);
                graph.replace(old, new)
            })
            .collect()
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (1, 2), (2, 3)]
    }
}
