//! The fused ops: which operands their kernels take, and which file calls them.

mod attention;
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
use smallvec::SmallVec;
use tfm_core::backend::{Outcome, PackFormat, Signature, View, ViewMut};
use tfm_core::fused::{Embedding, Fused, Linear, Precision};
use tfm_core::{DType, Layout};

/// What a kernel asks of an operand's layout.
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

/// What each operand of `op` must be like.
fn wanted(op: &Fused, operand: usize) -> Wanted {
    match op {
        Fused::Embedding(_) if operand % 2 == 1 => Wanted::Rows,
        Fused::Embedding(_) => Wanted::Contiguous,
        Fused::TopOfLinear(_) | Fused::TopLogits(_) if operand == 0 => Wanted::Rows,
        // Weights.
        Fused::TopOfLinear(_) if operand == 1 => Wanted::Any,
        Fused::TopLogits(op) if operand == 1 || (op.screened && operand == 2) => Wanted::Any,
        Fused::TopOfLinear(_) | Fused::TopLogits(_) => Wanted::Contiguous,
        Fused::Linear(_) if operand == 1 => Wanted::Any,
        Fused::Linear(op) if op.bias && operand == 2 => Wanted::Contiguous,
        Fused::Linear(_) => Wanted::Rows,
        Fused::RowTableAttention(_) if operand < 3 => Wanted::Heads,
        Fused::RowTableAttention(_) => Wanted::Contiguous,
        Fused::LayerNorm(_)
        | Fused::RmsNorm(_)
        | Fused::CrossEntropy(_)
        | Fused::TopLogProbabilities(_)
            if operand == 0 =>
        {
            Wanted::Rows
        }
        Fused::Softmax(_) => Wanted::Rows,
        Fused::LayerNorm(_)
        | Fused::RmsNorm(_)
        | Fused::CrossEntropy(_)
        | Fused::TopLogProbabilities(_) => Wanted::Contiguous,
        Fused::LayerNormGradient(_) | Fused::RmsNormGradient(_) if operand != 1 => Wanted::Rows,
        Fused::LayerNormGradient(_)
        | Fused::RmsNormGradient(_)
        | Fused::Activate(_)
        | Fused::ActivateGradient(_)
        | Fused::Dropout(_)
        | Fused::CrossEntropyGradient(_)
        | Fused::SumOfSquares(_)
        | Fused::TopOfShortlist(_)
        | Fused::Adam(_) => Wanted::Contiguous,
        Fused::Attention(_) | Fused::AttentionGradient(_) if operand < 3 => Wanted::Heads,
        Fused::Attention(_) | Fused::AttentionGradient(_) => Wanted::Contiguous,
    }
}

/// Whether [`run`] takes operands of this signature.
pub(crate) fn supports(op: &Fused, signature: &Signature<'_>) -> bool {
    let fits = |layout: &Layout, operand| match wanted(op, operand) {
        Wanted::Any => true,
        Wanted::Rows => layout.as_rows().is_some(),
        Wanted::Heads => layout.has_contiguous_rows(),
        Wanted::Contiguous => layout.is_contiguous(),
    };
    let all_fit = signature.inputs.iter().enumerate().all(|(i, (_, layout))| fits(layout, i));
    let width = signature.inputs.first().map_or(0, |(_, layout)| layout.shape().last_extent());
    let sizes_fit = match op {
        Fused::Linear(Linear { precision, .. }) | Fused::Embedding(Embedding { precision, .. }) => {
            match precision {
                Precision::Full => true,
                Precision::BFloat16 => false,
                Precision::Int8 => {
                    let (dtype, weight) = &signature.inputs[1];
                    *dtype == DType::F32 && weight.shape().last_extent() <= quantized::LONGEST
                }
            }
        }
        // The decompositions of what is not here begin with the kernel of a linear layer, and lose nothing.
        Fused::TopOfLinear(op) => {
            op.precision == Precision::Full && signature.inputs[0].0 != DType::F32
        }
        Fused::TopLogits(op) => op.precision == Precision::Full,
        Fused::TopOfShortlist(_) => false,
        Fused::LayerNorm(_)
        | Fused::LayerNormGradient(_)
        | Fused::RmsNorm(_)
        | Fused::RmsNormGradient(_) => width <= norm::LONGEST,
        Fused::CrossEntropy(_) | Fused::CrossEntropyGradient(_) => width > 0,
        Fused::RowTableAttention(op) => {
            of_one_type(&signature.inputs[..3]) && row_table_attention::supports(op, width)
        }
        Fused::Attention(op) => {
            of_one_type(&signature.inputs[..3]) && attention::supports(op, width)
        }
        Fused::AttentionGradient(op) => attention::supports_gradient(&op.0, width),
        _ => true,
    };
    all_fit && sizes_fit
}

/// Whether query, keys and values have one type.
fn of_one_type(operands: &[(DType, Layout)]) -> bool {
    operands.iter().all(|(dtype, _)| *dtype == operands[0].0)
}

/// How a static operand of an op that [`supports`] accepts is stored. An embedding's table is often also the weight of the last
/// product, and is then stored once.
pub(crate) fn pack_format(op: &Fused, operand: usize) -> Option<PackFormat> {
    match op {
        Fused::Linear(Linear { precision: Precision::Int8, .. })
        | Fused::Embedding(Embedding { precision: Precision::Int8, .. })
            if operand == 1 =>
        {
            Some(quantized::FORMAT)
        }
        _ => None,
    }
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
        Fused::Linear(op) => linear::run(cuda, op, inputs, &mut outputs[0]),
        Fused::RowTableAttention(op) => row_table_attention::run(cuda, op, inputs, &mut outputs[0]),
        Fused::LayerNorm(op) => norm::run(cuda, "layer_norm", op.epsilon, inputs, &mut outputs[0]),
        Fused::RmsNorm(op) => norm::run(cuda, "rms_norm", op.epsilon, inputs, &mut outputs[0]),
        Fused::LayerNormGradient(op) => {
            norm::run_gradient(cuda, "layer_norm_gradient", op.epsilon, inputs, outputs)
        }
        Fused::RmsNormGradient(op) => {
            norm::run_gradient(cuda, "rms_norm_gradient", op.epsilon, inputs, outputs)
        }
        Fused::Softmax(op) => softmax::run(cuda, op, &inputs[0], &mut outputs[0]),
        Fused::Activate(op) => elementwise::activate(cuda, op.0, &inputs[0], None, &mut outputs[0]),
        Fused::ActivateGradient(op) => {
            elementwise::activate(cuda, op.0, &inputs[0], Some(&inputs[1]), &mut outputs[0])
        }
        Fused::Dropout(op) => elementwise::dropout(cuda, op, inputs, &mut outputs[0]),
        Fused::CrossEntropy(op) => cross_entropy::run(cuda, op, inputs, outputs),
        Fused::CrossEntropyGradient(op) => {
            cross_entropy::run_gradient(cuda, op, inputs, &mut outputs[0])
        }
        Fused::TopLogProbabilities(op) => search::run(cuda, op, inputs, outputs),
        Fused::TopOfLinear(op) => {
            search::of_linear(cuda, "top_of_linear", op.k, op.bias, inputs, outputs)
        }
        Fused::TopLogits(op) => {
            // What it may be screened by is not needed.
            let mut inputs: SmallVec<[View<'_, Buffer>; 5]> = inputs.into();
            if op.screened {
                inputs.remove(2);
            }
            search::of_linear(cuda, "top_logits", op.k, op.bias, &inputs, outputs)
        }
        Fused::TopOfShortlist(_) => unreachable!("`supports` refuses it"),
        Fused::SumOfSquares(_) => optimizer::sum_of_squares(cuda, &inputs[0], &mut outputs[0]),
        Fused::Adam(op) => optimizer::adam(cuda, op, inputs, outputs),
        Fused::Attention(op) => attention::run(cuda, op, inputs, outputs),
        Fused::AttentionGradient(op) => attention::gradient(cuda, op, inputs, outputs),
    }
}

/// The rows of an operand, which [`supports`] has made sure of: how many, how long, how far apart.
pub(crate) fn rows(layout: &Layout) -> (usize, usize, usize) {
    layout.as_rows().expect("`supports` asks for rows")
}

/// The threads of a block that has a row of so many elements: about 16 elements a thread, and 512 threads at most. It depends
/// on the length alone, and with it the order of sums.
pub(crate) fn row_threads(width: usize) -> u32 {
    (width.div_ceil(16).next_multiple_of(32)).clamp(32, 512) as u32
}

/// The elements of 16 bytes: what a thread of an element-wise kernel has.
fn pack(dtype: DType) -> usize {
    16 / dtype.size()
}

/// A kernel's name for an element type.
fn typed(kernel: &str, dtype: DType) -> String {
    format!("{kernel}_{}", crate::backend::name(dtype))
}
