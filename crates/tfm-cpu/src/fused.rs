//! The fused ops: which operands their kernels take, and the calls.

use half::bf16;
use tfm_core::backend::{Outcome, Signature, View, ViewMut};
use tfm_core::fused::{
    CrossEntropyOperands, EmbeddingOperands, Fused, LayerNormGradientOperands, LayerNormOperands,
    LinearOperands, List, RelativeBias, RmsNormGradientOperands, RmsNormOperands, SoftmaxOperands,
    TopLogProbabilitiesOperands, TopLogitsOperands, TopOfLinearOperands, TopOfShortlistOperands,
};
use tfm_core::{DType, Layout};

use crate::CpuBackend;
use crate::buffer::{Buffer, Element, destination, from_offset, in_order};
use crate::kernels::activation::activate;
use crate::kernels::attention::{KeyRows, Options, attention_with};
use crate::kernels::distance_bias::DistanceBias;
use crate::kernels::heads::{Heads, Kept};
use crate::kernels::norm::{layer_norm, rms_norm};
use crate::kernels::rows::Rows;
use crate::kernels::simd::{Kernel, Simd};
use crate::kernels::softmax::softmax;
use crate::kernels::top_k::top_log_probabilities;

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
    /// `[rows, heads, size]` with contiguous heads.
    Heads,
    /// No gaps.
    Contiguous,
}

/// What each of so many operands of `op` must be like.
fn wanted(op: &Fused, operands: usize) -> List<Wanted> {
    use Wanted::{Any, Contiguous, Heads, Rows};
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
        Fused::Attention(_) | Fused::RowTableAttention(_) | Fused::AttentionGradient(_) => {
            (0..operands).map(|operand| if operand < 3 { Heads } else { Contiguous }).collect()
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

/// Whether [`run`] takes operands of this signature: `f32` (and `i32`; keys and values also in `bf16`), in layouts that the
/// kernels read.
pub(crate) fn supports(op: &Fused, signature: &Signature<'_>) -> bool {
    let wanted = wanted(op, signature.inputs.len());
    let mut operands = signature.inputs.iter().zip(wanted).enumerate();
    operands.all(|(operand, ((dtype, layout), wanted))| {
        let fits = match wanted {
            Wanted::Any => true,
            Wanted::Rows => layout.as_rows().is_some(),
            Wanted::Heads => layout.has_contiguous_rows(),
            Wanted::Contiguous => layout.is_contiguous(),
        };
        fits && match dtype {
            DType::F32 | DType::I32 => true,
            DType::BF16 => keeps(op, operand),
            DType::F16 => false,
        }
    })
}

/// Whether an operand is keys or values, which may be kept in `bf16`.
fn keeps(op: &Fused, operand: usize) -> bool {
    matches!(op, Fused::Attention(_) | Fused::RowTableAttention(_)) && matches!(operand, 1 | 2)
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
        Fused::Attention(op) => {
            let (query_offsets, key_ranges) = (in_order(&inputs[3]), in_order(&inputs[4]));
            let (query_offsets, key_ranges) = (&query_offsets[..], &key_ranges[..]);
            let rows = KeyRows::Ragged { query_offsets, key_ranges, causal: op.causal };
            let [key, table] = op.optional(5).map(|place| place.map(|place| &inputs[place]));
            let dropout = op.dropout.zip(key).map(|(mask, key)| training::dropout_of(mask, key));
            let bias = distance_bias(op.bias, table, inputs, rows);
            let log_sum_exp = Some(destination::<f32>(&mut others[0]));
            let options = Options { bias: bias.as_ref(), dropout, log_sum_exp };
            attend(cpu, inputs, rows, op.scale as f32, options, out);
        }
        Fused::RowTableAttention(op) => {
            let (row_table, lengths) = (in_order(&inputs[3]), in_order(&inputs[4]));
            let width = inputs[3].layout.shape()[1];
            let rows = KeyRows::Table { row_table: &row_table, width, lengths: &lengths };
            let bias = distance_bias(op.bias, inputs.get(5), inputs, rows);
            let options = Options { bias: bias.as_ref(), ..Options::default() };
            attend(cpu, inputs, rows, op.scale as f32, options, out);
        }
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

/// Attention of a query to keys and values, the first three operands.
fn attend(
    cpu: &CpuBackend,
    inputs: &[View<'_, Buffer>],
    rows: KeyRows<'_>,
    scale: f32,
    options: Options<'_>,
    out: &mut [f32],
) {
    let (isa, threads, query) = (cpu.isa, &cpu.threads, heads(&inputs[0]));
    if inputs[1].dtype == DType::BF16 {
        let kept: [Heads<'_, bf16>; 2] = [1, 2].map(|i| heads(&inputs[i]));
        attention_with(isa, threads, (query, kept), rows, scale, options, out);
    } else {
        let kept: [Heads<'_>; 2] = [1, 2].map(|i| heads(&inputs[i]));
        attention_with(isa, threads, (query, kept), rows, scale, options, out);
    }
}

/// A view `[rows, heads, size]`.
fn heads<'a, T: Element + Kept>(view: &View<'a, Buffer>) -> Heads<'a, T> {
    let layout: &Layout = view.layout;
    let (shape, strides) = (layout.shape(), layout.strides());
    Heads::new(from_offset(view), [shape[0], shape[1], shape[2]], [strides[0], strides[1]])
}

/// The biases of a call of attention, if it has any.
fn distance_bias(
    bias: Option<RelativeBias>,
    table: Option<&View<'_, Buffer>>,
    inputs: &[View<'_, Buffer>],
    rows: KeyRows<'_>,
) -> Option<DistanceBias> {
    let (bias, table) = bias.zip(table)?;
    let [query, key] = [0, 1].map(|i| inputs[i].layout.shape());
    Some(DistanceBias::new(bias, &in_order(table), query[1], [query[0], key[0]], rows))
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
