//! The kernels of activation functions and dropout. Each thread computes one pack of elements.

use super::{pack, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Activation, Dropout, DropoutOperands};

/// Computes the function of x or, where `dy` is given, the gradient.
pub(super) fn activate(
    cuda: &CudaBackend,
    function: Activation,
    x: &View<'_, Buffer>,
    dy: Option<&View<'_, Buffer>>,
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let n = out.layout.shape().elements();
    let number = Activation::ALL.iter().position(|other| *other == function).unwrap_or(0) as i32;
    let call = cuda.call("activation", typed("activate", out.dtype)).signed(number).source(x);
    let call = call.source_or_nothing(dy).target(out);
    call.each_of(n, pack(x.dtype))
}

pub(super) fn dropout(
    cuda: &CudaBackend,
    op: &Dropout,
    inputs: &[View<'_, Buffer>],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let DropoutOperands { x, key, residual } = op.operands(inputs);
    let n = out.layout.shape().elements();
    let call = cuda.call("dropout", typed("dropout", out.dtype));
    let call = call.source(&x).source(&key).source_or_nothing(residual.as_ref());
    let call = call.bits(op.mask.stream).float(op.mask.rate.into()).float(op.mask.scale());
    call.target(out).each_of(n, pack(x.dtype))
}
