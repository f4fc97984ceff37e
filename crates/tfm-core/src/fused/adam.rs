//! Adam, on a parameter in place.

use super::{FusedOp, Operand, Results, Values, expect_shape, operands};
use crate::{DType, Graph, Shape, Value};

/// One update of a parameter p with its gradient (Kingma and Ba 2015, algorithm 1; with decoupled weight
/// decay, Loshchilov and Hutter 2019, algorithm 2):
///
/// `g = s·gradient`, `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`,
/// `p ← p − η·(c₁m/(√(c₂v) + ε) + λp)`.
///
/// All operands are in `F32`. Outputs: parameter, m and v, in their operands' places. Where the scale is NaN
/// nothing changes: a training step whose gradient is not finite leaves the model as it was.
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

operands! {
    /// The operands of [`Adam`] that it reads, after those that it changes.
    AdamOperands<T> of (op: Adam) {
        /// In the shape of the parameter.
        gradient: T,
        /// `[3]`: η, `c₁ = 1/(1 − β₁ᵗ)`, `c₂ = 1/(1 − β₂ᵗ)`.
        rates: T,
        /// s: a scalar.
        scale: T,
    }
    in place
    /// What [`Adam`] changes, all of one shape of at least one axis.
    AdamInPlace<T> {
        /// p.
        parameter: T,
        /// m.
        first_moment: T,
        /// v.
        second_moment: T,
    }
}

impl FusedOp for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let AdamOperands { gradient, rates, scale } = self.expect(inputs)?;
        let AdamInPlace { parameter, first_moment, second_moment } =
            AdamInPlace::of(inputs.iter().copied());
        for (what, operand) in self.operand_names().iter().zip(inputs) {
            if operand.dtype != DType::F32 {
                return Err(format!("{what} must be f32, is {}", operand.dtype));
            }
        }
        let shape = parameter.shape;
        if shape.is_empty() {
            return Err("parameter must have an axis".into());
        }
        expect_shape("first_moment", first_moment, shape)?;
        expect_shape("second_moment", second_moment, shape)?;
        expect_shape("gradient", gradient, shape)?;
        expect_shape("rates", rates, &[3])?;
        expect_shape("scale", scale, &Shape::default())?;
        Ok((0..3).map(|_| (shape.clone(), DType::F32)).collect())
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let AdamOperands { gradient, rates, scale } = self.operands(inputs);
        let AdamInPlace { parameter, first_moment: m, second_moment: v } =
            AdamInPlace::of(inputs.iter().copied());
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

    fn in_place(&self) -> usize {
        Self::IN_PLACE
    }
}
