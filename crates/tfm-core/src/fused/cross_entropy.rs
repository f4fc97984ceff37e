//! The loss: cross-entropy with label smoothing.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Results, Values, expect_floats, expect_integers,
    expect_rank, expect_shape, operands, result, value,
};
use crate::{DType, Graph, Shape, Value};

/// `loss_t = (1 − ε)·(L_t − z_{t,target}) + ε·(L_t − mean_j z_{t,j})` with
/// `L_t = log Σ_j exp z_{t,j}`: the cross-entropy with a target distribution that gives the share ε
/// of its mass to all tokens alike (Szegedy et al. 2016, section 7; "Attention is all you need",
/// section 5.4).
///
/// Outputs: `loss [t]` and `log_sum_exp [t]` (L), in `F32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy {
    /// ε.
    pub smoothing: f64,
}

operands! {
    /// The operands of [`CrossEntropy`].
    CrossEntropyOperands<T> of (op: CrossEntropy) {
        /// z: `[t, v]`.
        logits: T,
        /// `[t]` in `I32`.
        targets: T,
    }
}

impl FusedOp for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let CrossEntropyOperands { logits, targets } = self.expect(inputs)?;
        let (t, _) = expect_logits(logits, targets)?;
        let row = (Shape::from([t]), DType::F32);
        Ok(Results::from_iter([row.clone(), row]))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let g = graph.equations();
        let CrossEntropyOperands { logits, targets } = self.operands(inputs);
        let (logits, targets) = (g.of(logits), g.of(targets));
        let (t, v) = (logits.shape()[0], logits.shape()[1]);
        let logits = logits.cast(DType::F32);
        let max = logits.largest(1);
        let shifted = logits - max;
        let log_sum = shifted.exp().sum(1).log(); // [t, 1], of the shifted logits
        let places = g.iota(t) * g.constant(v as f64, DType::I32) + targets;
        let target = shifted.reshape([t * v]).gather(places).reshape([t, 1]);
        let mut loss = (log_sum - target) * (1.0 - self.smoothing);
        if self.smoothing != 0.0 {
            loss = loss + (log_sum - shifted.mean(1)) * self.smoothing;
        }
        let log_sum_exp = max + log_sum;
        [loss, log_sum_exp].into_iter().map(|column| column.reshape([t]).value()).collect()
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let (Some(loss), None) = (node.gradients[0], node.gradients[1]) else {
            return None;
        };
        let op = CrossEntropyGradient { smoothing: self.smoothing };
        let CrossEntropyOperands { logits, targets } = self.operands(node.inputs);
        let read =
            CrossEntropyGradientOperands { targets, log_sum_exp: node.outputs[1], d_loss: loss };
        let operands = CrossEntropyGradientInPlace { logits }.with(read);
        let gradient = graph.fused(op, &operands);
        Some(CrossEntropyOperands { logits: Some(gradient), targets: None }.list())
    }
}

/// The gradient of [`CrossEntropy`]:
/// `dz_{t,j} = dloss_t·(exp(z_{t,j} − L_t) − (1 − ε)·[j = target] − ε/v)`.
///
/// Output: `[t, v]`, which takes the place of the logits, so that a training step holds only one
/// value of that size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropyGradient {
    /// ε.
    pub smoothing: f64,
}

operands! {
    /// The operands of [`CrossEntropyGradient`] that it reads, after the logits.
    CrossEntropyGradientOperands<T> of (op: CrossEntropyGradient) {
        /// `[t]` in `I32`.
        targets: T,
        /// L: `[t]` in `F32`.
        log_sum_exp: T,
        /// `[t]` in `F32`.
        d_loss: T,
    }
    in place
    /// What [`CrossEntropyGradient`] overwrites.
    CrossEntropyGradientInPlace<T> {
        /// z: `[t, v]`.
        logits: T,
    }
}

impl FusedOp for CrossEntropyGradient {
    fn name(&self) -> &'static str {
        "cross_entropy_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let CrossEntropyGradientOperands { targets, log_sum_exp, d_loss } = self.expect(inputs)?;
        let CrossEntropyGradientInPlace { logits } =
            CrossEntropyGradientInPlace::of(inputs.iter().copied());
        let (t, dtype) = expect_logits(logits, targets)?;
        for (what, operand) in [("log_sum_exp", log_sum_exp), ("d_loss", d_loss)] {
            expect_shape(what, operand, &[t])?;
            if operand.dtype != DType::F32 {
                return Err(format!("{what} must be f32, is {}", operand.dtype));
            }
        }
        Ok(result(logits.shape.clone(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let op = CrossEntropy { smoothing: self.smoothing };
        let CrossEntropyGradientOperands { targets, d_loss, .. } = self.operands(inputs);
        let CrossEntropyGradientInPlace { logits } =
            CrossEntropyGradientInPlace::of(inputs.iter().copied());
        let loss = op.decompose(graph, &CrossEntropyOperands { logits, targets }.list())[0];
        let gradients = graph.differentiate(&[(loss, d_loss)], &[logits], &[]);
        value(gradients[0].unwrap_or_else(|| graph.filled_like(0.0, logits)))
    }

    fn in_place(&self) -> usize {
        Self::IN_PLACE
    }
}

/// The number of rows, and the type of the logits.
fn expect_logits(logits: Operand<'_>, targets: Operand<'_>) -> Result<(usize, DType), String> {
    let dtype = expect_floats(&[("logits", logits)])?;
    expect_rank("logits", logits, 2)?;
    expect_integers("targets", targets)?;
    let t = logits.shape[0];
    expect_shape("targets", targets, &[t])?;
    Ok((t, dtype))
}
