//! The fused ops: which operands their kernels take, and the calls.

use tfm_core::DType;
use tfm_core::backend::{Outcome, Signature, View, ViewMut};
use tfm_core::fused::{
    CrossEntropyOperands, EmbeddingOperands, Fused, LayerNormGradientOperands, LayerNormOperands,
    LinearOperands, List, RmsNormGradientOperands, RmsNormOperands, SoftmaxOperands,
    TopLogProbabilitiesOperands, TopLogitsOperands, TopOfLinearOperands, TopOfShortlistOperands,
};

use crate::CpuBackend;
use crate::buffer::{Buffer, destination, from_offset, in_order};
use crate::kernels::activation::activate;
use crate::kernels::norm::{layer_norm, rms_norm};
use crate::kernels::rows::Rows;
use crate::kernels::simd::{Kernel, Simd};
use crate::kernels::softmax::softmax;
use crate::kernels::top_k::top_log_probabilities;

mod attention;
mod linear;
mod shortlist;
mod training;

/// What a kernel asks of an operand's layout.
#[derive(Clone, Copy)]
enum Wanted {
    /// Any strides.
    Any,
    /// Contiguous rows at one distance.
    Rows,
    /// No gaps.
    Contiguous,
}

/// What the kernel of `op` asks of each of so many operands.
fn wanted(op: &Fused, operands: usize) -> List<Wanted> {
    use Wanted::{Any, Contiguous, Rows};
    match op {
        Fused::Linear(op) => {
            let bias = op.bias.then_some(Contiguous);
            let residual = op.residual.then_some(Rows);
            LinearOperands { x: Rows, weight: Any, bias, residual }.list()
        }
        Fused::TopOfLinear(op) => {
            let bias = op.bias.then_some(Contiguous);
            TopOfLinearOperands { x: Rows, weight: Any, bias, bans: Contiguous }.list()
        }
        Fused::TopLogits(op) => {
            let bias = op.bias.then_some(Contiguous);
            let screen = op.screened.then_some(Any);
            TopLogitsOperands { x: Rows, weight: Any, screen, bias, bans: Contiguous }.list()
        }
        Fused::TopOfShortlist(op) => TopOfShortlistOperands {
            x: Rows,
            weight: Any,
            bias: op.bias.then_some(Contiguous),
            bans: Contiguous,
            columns: Contiguous,
            lists: Contiguous,
            lengths: Contiguous,
            list_of: Contiguous,
        }
        .list(),
        Fused::Attention(_) | Fused::AttentionGradient(_) => {
            unreachable!("`attention` says what these want")
        }
        Fused::LayerNorm(_) => {
            LayerNormOperands { x: Rows, weight: Contiguous, bias: Contiguous }.list()
        }
        Fused::RmsNorm(_) => RmsNormOperands { x: Rows, weight: Contiguous }.list(),
        Fused::LayerNormGradient(_) => {
            LayerNormGradientOperands { x: Rows, weight: Contiguous, dy: Rows }.list()
        }
        Fused::RmsNormGradient(_) => {
            RmsNormGradientOperands { x: Rows, weight: Contiguous, dy: Rows }.list()
        }
        Fused::Softmax(_) => SoftmaxOperands { x: Rows }.list(),
        Fused::CrossEntropy(_) => CrossEntropyOperands { logits: Rows, targets: Contiguous }.list(),
        Fused::TopLogProbabilities(_) => {
            TopLogProbabilitiesOperands { logits: Rows, bias: Contiguous }.list()
        }
        Fused::Embedding(op) => {
            let positions = op.positions.then_some(Contiguous);
            let position_table = op.positions.then_some(Rows);
            EmbeddingOperands { ids: Contiguous, table: Any, positions, position_table }.list()
        }
        Fused::Activate(_)
        | Fused::ActivateGradient(_)
        | Fused::Dropout(_)
        | Fused::CrossEntropyGradient(_)
        | Fused::SumOfSquares(_)
        | Fused::Adam(_) => List::from_elem(Contiguous, operands),
    }
}

/// Whether [`run`] takes operands of this signature: `f32` and `i32`, in layouts that the kernels
/// read.
pub(crate) fn supports(op: &Fused, signature: &Signature<'_>) -> bool {
    match op {
        Fused::Attention(op) => return attention::supports(op, signature),
        Fused::AttentionGradient(op) => return attention::supports_gradient(op, signature),
        _ => {}
    }
    let wanted = wanted(op, signature.inputs.len());
    let mut operands = signature.inputs.iter().zip(wanted);
    operands.all(|((dtype, layout), wanted)| {
        let fits = match wanted {
            Wanted::Any => true,
            Wanted::Rows => layout.as_rows().is_some(),
            Wanted::Contiguous => layout.is_contiguous(),
        };
        fits && matches!(dtype, DType::F32 | DType::I32)
    })
}

/// Runs an op that [`supports`] accepts.
pub(crate) fn run(
    cpu: &CpuBackend,
    op: &Fused,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let (isa, threads) = (cpu.isa, &cpu.threads);
    if training::has(op) {
        return training::run(cpu, op, inputs, outputs);
    }
    let (first, others) = outputs.split_first_mut().expect("every op has an output");
    let out = destination::<f32>(first);
    match op {
        Fused::Linear(op) => linear::run(cpu, op, inputs, out)?,
        Fused::Attention(op) => attention::run(cpu, op, inputs, out, others),
        Fused::LayerNorm(op) => {
            let LayerNormOperands { x, weight, bias } = op.operands(inputs);
            let (weight, bias) = (in_order(&weight), in_order(&bias));
            layer_norm(isa, threads, rows(&x), &weight, &bias, op.epsilon as f32, out);
        }
        Fused::RmsNorm(op) => {
            let RmsNormOperands { x, weight } = op.operands(inputs);
            rms_norm(isa, threads, rows(&x), &in_order(&weight), op.epsilon as f32, out);
        }
        Fused::Softmax(op) => softmax(isa, threads, rows(&op.operands(inputs).x), op.log, out),
        Fused::Activate(op) => {
            let x = in_order::<f32>(&op.operands(inputs).x);
            threads.rows(out, 1, 20, |range, out| {
                isa.run(Activations { activation: op.0, x: &x[range], out });
            });
        }
        Fused::Embedding(op) => linear::embed(cpu, op, inputs, out)?,
        Fused::TopOfLinear(op) => {
            linear::run_top(cpu, op, inputs, out, destination::<i32>(&mut others[0]))?;
        }
        Fused::TopLogits(op) => {
            linear::run_top_logits(cpu, op, inputs, out, destination::<i32>(&mut others[0]))?;
        }
        Fused::TopOfShortlist(op) => {
            let [ids, log_sum_exps] = others else { unreachable!("three results") };
            let (ids, sums) = (destination(ids), destination(log_sum_exps));
            shortlist::run(cpu, op, inputs, out, ids, sums)?;
        }
        Fused::TopLogProbabilities(op) => {
            let ids = destination::<i32>(&mut others[0]);
            let TopLogProbabilitiesOperands { logits, bias } = op.operands(inputs);
            top_log_probabilities(isa, threads, rows(&logits), &in_order(&bias), op.k, out, ids);
        }
        _ => unreachable!("an op of training"),
    }
    Ok(())
}

/// A view as rows, which [`supports`] has made sure of.
fn rows<'a>(view: &View<'a, Buffer>) -> Rows<'a> {
    let (rows, cols, stride) = view.layout.as_rows().expect("`supports` asks for rows");
    Rows::new(from_offset(view), rows, cols, stride)
}

struct Activations<'a> {
    activation: tfm_core::fused::Activation,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Activations<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, out) in self.x.chunks(S::LANES).zip(self.out.chunks_mut(S::LANES)) {
            s.store_partial(activate(s, self.activation, s.load_partial(x)), out);
        }
    }
}
