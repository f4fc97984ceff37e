//! The fused ops of training: gradients, loss, dropout, optimiser.

use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{
    ActivateGradientOperands, AdamInPlace, AdamOperands, CrossEntropyGradientOperands,
    CrossEntropyOperands, DropoutMask, DropoutOperands, Fused, LayerNormGradientOperands,
    RmsNormGradientOperands,
};

use super::{attention, rows};
use crate::CpuBackend;
use crate::buffer::{Buffer, destination, in_order, out_of_memory};
use crate::kernels::activation_gradient::activation_gradient;
use crate::kernels::cross_entropy::{cross_entropy, cross_entropy_gradient};
use crate::kernels::dropout::{Dropout, dropout};
use crate::kernels::norm_gradient::{NormGradients, norm_gradient};
use crate::kernels::optimizer::{Adam, adam, sum_of_squares};

/// Whether [`run`] computes the op.
pub(super) fn has(op: &Fused) -> bool {
    matches!(
        op,
        Fused::AttentionGradient(_)
            | Fused::LayerNormGradient(_)
            | Fused::RmsNormGradient(_)
            | Fused::ActivateGradient(_)
            | Fused::Dropout(_)
            | Fused::CrossEntropy(_)
            | Fused::CrossEntropyGradient(_)
            | Fused::SumOfSquares(_)
            | Fused::Adam(_)
    )
}

/// A mask with its key.
pub(super) fn dropout_of(mask: DropoutMask, key: &View<'_, Buffer>) -> Dropout {
    let key = in_order::<i32>(key);
    Dropout { rate: mask.rate, key: [key[0], key[1], key[2]], stream: mask.stream }
}

/// Runs an op of training.
pub(super) fn run(
    cpu: &CpuBackend,
    op: &Fused,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let (isa, threads) = (cpu.isa, &cpu.threads);
    let mut outputs = outputs.iter_mut().map(destination::<f32>);
    let mut out = || outputs.next().expect("as many outputs as the op has");
    match op {
        Fused::AttentionGradient(op) => attention::gradient(cpu, op, inputs, out),
        Fused::LayerNormGradient(op) => {
            let out = NormGradients { x: out(), weight: out(), bias: Some(out()) };
            let LayerNormGradientOperands { x, weight, dy } = op.operands(inputs);
            run_norm(cpu, [x, dy], weight, op.epsilon, out)?;
        }
        Fused::RmsNormGradient(op) => {
            let out = NormGradients { x: out(), weight: out(), bias: None };
            let RmsNormGradientOperands { x, weight, dy } = op.operands(inputs);
            run_norm(cpu, [x, dy], weight, op.epsilon, out)?;
        }
        Fused::ActivateGradient(op) => {
            let ActivateGradientOperands { x, dy } = op.operands(inputs);
            activation_gradient(isa, threads, op.0, &in_order(&x), &in_order(&dy), out());
        }
        Fused::Dropout(op) => {
            let DropoutOperands { x, key, residual } = op.operands(inputs);
            let residual = residual.as_ref().map(in_order);
            let mask = dropout_of(op.mask, &key);
            dropout(isa, threads, mask, &in_order(&x), residual.as_deref(), out());
        }
        Fused::CrossEntropy(op) => {
            let CrossEntropyOperands { logits, targets } = op.operands(inputs);
            let (logits, targets) = (rows(&logits), in_order(&targets));
            cross_entropy(isa, threads, logits, &targets, op.smoothing as f32, [out(), out()]);
        }
        Fused::CrossEntropyGradient(op) => {
            let CrossEntropyGradientOperands { targets, log_sum_exp, d_loss } = op.operands(inputs);
            let (targets, d_loss) = (in_order(&targets), in_order(&d_loss));
            let (log_sum_exp, smoothing) = (in_order(&log_sum_exp), op.smoothing as f32);
            let logits = out();
            cross_entropy_gradient(
                isa,
                threads,
                logits,
                &targets,
                &log_sum_exp,
                smoothing,
                &d_loss,
            );
        }
        Fused::SumOfSquares(op) => {
            out()[0] = sum_of_squares(isa, threads, &in_order(&op.operands(inputs).x));
        }
        Fused::Adam(op) => {
            let AdamOperands { gradient, rates, scale } = op.operands(inputs);
            let gradient = in_order(&gradient);
            let (rates, scale) = (in_order::<f32>(&rates), in_order::<f32>(&scale)[0]);
            let step = Adam {
                rate: rates[0],
                correction_1: rates[1],
                correction_2: rates[2],
                beta_1: [op.beta1, 1.0 - op.beta1].map(|beta| beta as f32),
                beta_2: [op.beta2, 1.0 - op.beta2].map(|beta| beta as f32),
                epsilon: op.epsilon as f32,
                weight_decay: op.weight_decay as f32,
                scale,
            };
            // The scale is NaN: nothing changes.
            if !scale.is_nan() {
                let AdamInPlace { parameter, first_moment, second_moment } =
                    AdamInPlace::of(outputs);
                let moments = [first_moment, second_moment];
                adam(isa, threads, step, &gradient, parameter, moments);
            }
        }
        _ => unreachable!("not an op of training"),
    }
    Ok(())
}

/// The gradient of a norm of `x` given `dy`.
fn run_norm(
    cpu: &CpuBackend,
    [x, dy]: [View<'_, Buffer>; 2],
    weight: View<'_, Buffer>,
    epsilon: f64,
    out: NormGradients<'_>,
) -> Outcome {
    let weight = in_order(&weight);
    let (x, dy) = (rows(&x), rows(&dy));
    let bytes = 8 * x.rows().div_ceil(32) * x.cols();
    let epsilon = epsilon as f32;
    norm_gradient(cpu.isa, &cpu.threads, &cpu.scratch, [x, dy], &weight, epsilon, out)
        .map_err(|_| out_of_memory(bytes))
}
