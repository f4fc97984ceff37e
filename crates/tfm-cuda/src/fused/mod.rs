//! The fused ops: which operands their kernels take, and which file calls them.

mod attention;
mod embedding;

use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use tfm_core::backend::{Outcome, Signature, View, ViewMut};
use tfm_core::fused::Fused;
use tfm_core::{DType, Layout};

/// What a kernel asks of an operand's layout.
enum Wanted {
    /// Contiguous rows at one distance.
    Rows,
    /// `[rows, heads, size]` with contiguous heads of a size that the kernels take.
    Heads,
    /// No gaps.
    Contiguous,
}

/// What each operand of `op` must be like; `None` for an op without a kernel.
fn wanted(op: &Fused, operand: usize) -> Option<Wanted> {
    Some(match op {
        Fused::Embedding(_) if operand % 2 == 1 => Wanted::Rows,
        Fused::Embedding(_) => Wanted::Contiguous,
        Fused::Attention(_) | Fused::AttentionGradient(_) if operand < 3 => Wanted::Heads,
        Fused::Attention(_) | Fused::AttentionGradient(_) => Wanted::Contiguous,
        _ => return None,
    })
}

/// Whether [`run`] takes operands of this signature.
pub(crate) fn supports(op: &Fused, signature: &Signature<'_>) -> bool {
    signature.inputs.iter().enumerate().all(|(operand, (_, layout))| match wanted(op, operand) {
        None => false,
        Some(Wanted::Rows) => layout.as_rows().is_some(),
        Some(Wanted::Heads) => {
            layout.has_contiguous_rows() && attention::SIZES.contains(&layout.shape().last_extent())
        }
        Some(Wanted::Contiguous) => layout.is_contiguous(),
    })
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
        Fused::Attention(op) => attention::run(cuda, op, inputs, outputs),
        Fused::AttentionGradient(op) => attention::gradient(cuda, op, inputs, outputs),
        _ => unreachable!("`supports` refuses {op:?}"),
    }
}

/// The rows of an operand, which [`supports`] has made sure of: how many, how long, how far apart.
fn rows(layout: &Layout) -> (usize, usize, usize) {
    layout.as_rows().expect("`supports` asks for rows")
}

/// A kernel's name for an element type.
fn typed(kernel: &str, dtype: DType) -> String {
    format!("{kernel}_{}", crate::backend::name(dtype))
}
