//! Adam, on a parameter in place.

use super::{FusedOp, List, Operand, Results, Values, expect_shape, operands};
use crate::{DType, Expr, Graph, Shape, Value};

/// One update of a parameter p with its gradient (Kingma and Ba 2015, algorithm 1; with decoupled
/// weight decay, Loshchilov and Hutter 2019, algorithm 2):
///
/// `g = s·gradient`, `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`,
/// `p ← p − η·(c₁m/(√(c₂v) + ε) + λp)`.
///
/// All operands are in `F32`. Outputs: parameter, m and v, in their operands' places. If the scale
/// is NaN, nothing changes: a training step whose gradient is not finite leaves the model as it
/// was.
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
        let g = graph.equations();
        let operands: List<Expr<'_>> = inputs.iter().map(|&input| g.of(input)).collect();
        let AdamOperands { gradient, rates, scale } = self.operands(&operands);
        let AdamInPlace { parameter: p, first_moment: m, second_moment: v } =
            AdamInPlace::of(operands.iter().copied());
        let [rate, c1, c2] = [0, 1, 2].map(|i| rates.slice(0, i, 1).reshape(Shape::default()));
        let gradient = gradient * scale;
        let square = gradient * gradient;
        let new_m = m * self.beta1 + gradient * (1.0 - self.beta1);
        let new_v = v * self.beta2 + square * (1.0 - self.beta2);
        let mut direction = new_m * c1 / ((new_v * c2).sqrt() + self.epsilon);
        if self.weight_decay != 0.0 {
            direction = direction + p * self.weight_decay;
        }
        let new_p = p - direction * rate;
        let is_number = scale.equal(scale);
        let changes = [(p, new_p), (m, new_m), (v, new_v)].into_iter();
        changes.map(|(old, new)| old.replace(is_number.select(new, old)).value()).collect()
    }

    fn in_place(&self) -> usize {
        Self::IN_PLACE
    }
}
