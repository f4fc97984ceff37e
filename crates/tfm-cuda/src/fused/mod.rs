//! The fused ops: which operands their kernels take, and which file calls them.

mod attention;
mod attention_general;
mod cross_entropy;
mod elementwise;
mod embedding;
mod linear;
mod norm;
mod optimizer;
mod relative_bias;
mod row_table_attention;
mod search;
mod softmax;

pub(crate) use relative_bias::Buckets;

use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::quantized;
use tfm_core::backend::{Outcome, Signature, View, ViewMut};
use tfm_core::fused::{
    ActivateGradientOperands, Attention, AttentionOperands, CrossEntropyOperands,
    EmbeddingOperands, Fused, KeyLookup, LayerNormGradientOperands, LayerNormOperands,
    LinearOperands, List, Precision, RmsNormGradientOperands, RmsNormOperands, SoftmaxOperands,
    TopLogProbabilitiesOperands, TopLogitsOperands, TopOfLinearOperands,
};
use tfm_core::op::PackFormat;
use tfm_core::{DType, Layout};

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
    use Wanted::{Any, Contiguous, Rows};
    match op {
        Fused::Embedding(op) => {
            let positions = op.positions.then_some(Contiguous);
            let position_table = op.positions.then_some(Rows);
            EmbeddingOperands { ids: Contiguous, table: Rows, positions, position_table }.list()
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
        Fused::Linear(op) => {
            let bias = op.bias.then_some(Contiguous);
            let residual = op.residual.then_some(Rows);
            LinearOperands { x: Rows, weight: Any, bias, residual }.list()
        }
        Fused::Attention(op) => attention_wanted(op, operands),
        Fused::AttentionGradient(op) => attention_wanted(&op.0, operands),
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
        Fused::Activate(_)
        | Fused::ActivateGradient(_)
        | Fused::Dropout(_)
        | Fused::CrossEntropyGradient(_)
        | Fused::SumOfSquares(_)
        | Fused::TopOfShortlist(_)
        | Fused::Adam(_) => List::from_elem(Contiguous, operands),
    }
}

/// Heads of query, keys and values; the other operands contiguous.
fn attention_wanted(op: &Attention, operands: usize) -> List<Wanted> {
    let AttentionOperands { query, keys, more_keys, .. } = op.positions();
    let mut all = List::from_elem(Wanted::Contiguous, operands);
    all[query] = Wanted::Heads;
    for keys in [Some(keys), more_keys].iter().flatten() {
        all[keys.key] = Wanted::Heads;
        all[keys.value] = Wanted::Heads;
    }
    all
}

/// Whether [`run`] takes operands of this signature.
pub(crate) fn supports(op: &Fused, signature: &Signature<'_>) -> bool {
    let fits = |layout: &Layout, wanted| match wanted {
        Wanted::Any => true,
        Wanted::Rows => layout.as_rows().is_some(),
        Wanted::Heads => layout.has_contiguous_rows(),
        Wanted::Contiguous => layout.is_contiguous(),
    };
    let wanted = wanted(op, signature.inputs.len());
    let all_fit =
        signature.inputs.iter().zip(wanted).all(|((_, layout), wanted)| fits(layout, wanted));
    let width = signature.inputs.first().map_or(0, |(_, layout)| layout.shape().last_extent());
    let sizes_fit = match op {
        Fused::Linear(op) => weight_fits(op.precision, &signature.inputs[op.positions().weight]),
        Fused::Embedding(op) => weight_fits(op.precision, &signature.inputs[op.positions().table]),
        // Where these two are refused, their decompositions begin with the kernel of a linear layer
        // and lose nothing.
        Fused::TopOfLinear(op) => {
            let (x, _) = signature.inputs[op.positions().x];
            op.precision == Precision::Full && x != DType::F32
        }
        Fused::TopLogits(op) => op.precision == Precision::Full,
        Fused::TopOfShortlist(_) => false,
        Fused::LayerNorm(_)
        | Fused::LayerNormGradient(_)
        | Fused::RmsNorm(_)
        | Fused::RmsNormGradient(_) => width <= norm::LONGEST,
        Fused::CrossEntropy(_) | Fused::CrossEntropyGradient(_) => width > 0,
        Fused::Attention(op) if is_lean(op, |operand| &signature.inputs[operand].1) => {
            of_one_shape(&signature.inputs[..3])
                && match op.keys.lookup {
                    KeyLookup::Ranges => attention::supports(op, width),
                    KeyLookup::Table => row_table_attention::supports(op, width),
                }
        }
        Fused::Attention(op) => attention_general::supports(op, signature),
        Fused::AttentionGradient(op) => {
            of_one_shape(&signature.inputs[..3])
                && attention::is_plain(&op.0)
                && attention::supports_gradient(&op.0, width)
        }
        _ => true,
    };
    all_fit && sizes_fit
}

/// Whether there are kernels for a weight of this type and layout in a precision.
fn weight_fits(precision: Precision, (dtype, weight): &(DType, Layout)) -> bool {
    match precision {
        Precision::Full => true,
        Precision::BFloat16 => false,
        Precision::Int8 => {
            *dtype == DType::F32 && weight.shape().last_extent() <= quantized::LONGEST
        }
    }
}

/// Whether the lean kernels of attention take the op: one set of keys with as many heads as the
/// queries, without window and cap.
fn is_lean<'a>(op: &Attention, layout: impl Fn(usize) -> &'a Layout) -> bool {
    let AttentionOperands { query, keys, .. } = op.positions();
    attention::is_plain(op) && layout(query).shape()[1] == layout(keys.key).shape()[1]
}

/// Whether query, keys and values have one type, and as many heads.
fn of_one_shape(operands: &[(DType, Layout)]) -> bool {
    let (dtype, query) = &operands[0];
    operands.iter().all(|(of, layout)| of == dtype && layout.shape()[1] == query.shape()[1])
}

/// How a static operand of an op that [`supports`] accepts is stored. An embedding's table that is
/// also the weight of the last product is stored once.
pub(crate) fn pack_format(op: &Fused, operand: usize) -> Option<PackFormat> {
    let (weight, precision) = match op {
        Fused::Linear(op) => (op.positions().weight, op.precision),
        Fused::Embedding(op) => (op.positions().table, op.precision),
        _ => return None,
    };
    (operand == weight && precision == Precision::Int8).then_some(quantized::FORMAT)
}

/// Runs an op that [`supports`] accepts.
pub(crate) fn run(
    cuda: &CudaBackend,
    op: &Fused,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    match op {
        Fused::Embedding(op) => embedding::run(cuda, op, inputs, &mut outputs[0]),
        Fused::Linear(op) => linear::run(cuda, op, op.operands(inputs), &mut outputs[0]),
        Fused::LayerNorm(op) => {
            let LayerNormOperands { x, weight, bias } = op.operands(inputs);
            norm::run(cuda, "layer_norm", op.epsilon, x, &[weight, bias], &mut outputs[0])
        }
        Fused::RmsNorm(op) => {
            let RmsNormOperands { x, weight } = op.operands(inputs);
            norm::run(cuda, "rms_norm", op.epsilon, x, &[weight], &mut outputs[0])
        }
        Fused::LayerNormGradient(op) => norm::run_gradient(
            cuda,
            "layer_norm_gradient",
            op.epsilon,
            op.operands(inputs),
            outputs,
        ),
        Fused::RmsNormGradient(op) => {
            let RmsNormGradientOperands { x, weight, dy } = op.operands(inputs);
            let operands = LayerNormGradientOperands { x, weight, dy };
            norm::run_gradient(cuda, "rms_norm_gradient", op.epsilon, operands, outputs)
        }
        Fused::Softmax(op) => softmax::run(cuda, op, &op.operands(inputs).x, &mut outputs[0]),
        Fused::Activate(op) => {
            elementwise::activate(cuda, op.0, &op.operands(inputs).x, None, &mut outputs[0])
        }
        Fused::ActivateGradient(op) => {
            let ActivateGradientOperands { x, dy } = op.operands(inputs);
            elementwise::activate(cuda, op.0, &x, Some(&dy), &mut outputs[0])
        }
        Fused::Dropout(op) => elementwise::dropout(cuda, op, inputs, &mut outputs[0]),
        Fused::CrossEntropy(op) => cross_entropy::run(cuda, op, inputs, outputs),
        Fused::CrossEntropyGradient(op) => {
            cross_entropy::run_gradient(cuda, op, inputs, &mut outputs[0])
        }
        Fused::TopLogProbabilities(op) => search::run(cuda, op, inputs, outputs),
        Fused::TopOfLinear(op) => {
            let TopOfLinearOperands { x, weight, bias, bans } = op.operands(inputs);
            let layer = LinearOperands { x, weight, bias, residual: None };
            search::of_linear(cuda, "top_of_linear", op.k, layer, bans, outputs)
        }
        Fused::TopLogits(op) => {
            // The weight for screening is not needed: these kernels compute all logits.
            let TopLogitsOperands { x, weight, screen: _, bias, bans } = op.operands(inputs);
            let layer = LinearOperands { x, weight, bias, residual: None };
            search::of_linear(cuda, "top_logits", op.k, layer, bans, outputs)
        }
        Fused::TopOfShortlist(_) => unreachable!("`supports` refuses it"),
        Fused::SumOfSquares(op) => {
            optimizer::sum_of_squares(cuda, &op.operands(inputs).x, &mut outputs[0])
        }
        Fused::Adam(op) => optimizer::adam(cuda, op, inputs, outputs),
        Fused::Attention(op) if !is_lean(op, |operand| inputs[operand].layout) => {
            attention_general::run(cuda, op, inputs, outputs)
        }
        Fused::Attention(op) => match op.keys.lookup {
            KeyLookup::Ranges => attention::run(cuda, op, inputs, outputs),
            KeyLookup::Table => row_table_attention::run(cuda, op, inputs, &mut outputs[0]),
        },
        Fused::AttentionGradient(op) => attention::gradient(cuda, op, inputs, outputs),
    }
}

/// The rows of an operand, which [`supports`] has made sure of: how many, how long, how far apart.
pub(crate) fn rows(layout: &Layout) -> (usize, usize, usize) {
    layout.as_rows().expect("`supports` asks for rows")
}

/// How many threads a block has for a row of so many elements: one for about 16 elements, and 512
/// at most. The number depends on the length alone, and so does the order of sums.
pub(crate) fn row_threads(width: usize) -> u32 {
    (width.div_ceil(16).next_multiple_of(32)).clamp(32, 512) as u32
}

/// How many elements 16 bytes hold: the pack that a thread of an element-wise kernel takes.
fn pack(dtype: DType) -> usize {
    16 / dtype.size()
}

/// A kernel's name for an element type.
fn typed(kernel: &str, dtype: DType) -> String {
    format!("{kernel}_{}", crate::backend::name(dtype))
}
