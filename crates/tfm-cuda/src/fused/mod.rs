//! The fused ops: which operands their kernels take, and which file calls them.

mod embedding;
mod linear;
mod row_table_attention;

use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use tfm_core::backend::{Outcome, Signature, View, ViewMut};
use tfm_core::fused::Fused;
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

/// What each operand of `op` must be like; `None` for an op without a kernel.
fn wanted(op: &Fused, operand: usize) -> Option<Wanted> {
    Some(match op {
        Fused::Embedding(_) if operand % 2 == 1 => Wanted::Rows,
        Fused::Embedding(_) => Wanted::Contiguous,
        Fused::Linear(_) if operand == 1 => Wanted::Any,
        Fused::Linear(op) if op.bias && operand == 2 => Wanted::Contiguous,
        Fused::Linear(_) => Wanted::Rows,
        Fused::RowTableAttention(_) if operand < 3 => Wanted::Heads,
        Fused::RowTableAttention(_) => Wanted::Contiguous,
        _ => return None,
    })
}

/// Whether [`run`] takes operands of this signature.
pub(crate) fn supports(op: &Fused, signature: &Signature<'_>) -> bool {
    let sizes_fit = match op {
        Fused::RowTableAttention(_) => row_table_attention::supports(signature),
        _ => true,
    };
    let mut operands = signature.inputs.iter().enumerate();
    sizes_fit
        && operands.all(|(operand, (_, layout))| match wanted(op, operand) {
            None => false,
            Some(Wanted::Any) => true,
            Some(Wanted::Rows) => layout.as_rows().is_some(),
            Some(Wanted::Heads) => layout.has_contiguous_rows(),
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
        Fused::Linear(op) => linear::run(cuda, op, inputs, &mut outputs[0]),
        Fused::RowTableAttention(op) => row_table_attention::run(cuda, op, inputs, &mut outputs[0]),
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
