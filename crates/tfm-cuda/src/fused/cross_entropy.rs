//! The kernels of the loss and its gradient.

use super::{pack, row_threads, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{
    CrossEntropy, CrossEntropyGradient, CrossEntropyGradientOperands, CrossEntropyOperands,
};

pub(super) fn run(
    cuda: &CudaBackend,
    op: &CrossEntropy,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let CrossEntropyOperands { logits, targets } = op.operands(inputs);
    let (n, v, stride) = rows(logits.layout);
    let [loss, log_sum_exp] = outputs else { unreachable!("two outputs") };
    let call = cuda.call("cross_entropy", typed("cross_entropy", logits.dtype));
    let call = call.source(&logits).stride(stride).source(&targets).float(op.smoothing);
    let call = call.target(loss).target(log_sum_exp).count(v);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(v), shared: 0 })
}

/// Computes the gradient in the memory of the logits.
pub(super) fn run_gradient(
    cuda: &CudaBackend,
    op: &CrossEntropyGradient,
    inputs: &[View<'_, Buffer>],
    logits: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let CrossEntropyGradientOperands { targets, log_sum_exp, d_loss } = op.operands(inputs);
    let (n, v) = (logits.layout.shape().elements(), logits.layout.shape()[1]);
    // One pack more, since the first pack is shorter where the address is not aligned.
    let blocks = if n == 0 { 0 } else { (n.div_ceil(pack(logits.dtype)) + 1).div_ceil(256) };
    let call = cuda.call("cross_entropy", typed("cross_entropy_gradient", logits.dtype));
    let call = call.target(logits).source(&targets).source(&log_sum_exp).source(&d_loss);
    let call = call.float(op.smoothing).count(v).stride(n);
    call.launch(Grid { blocks: [blocks, 1, 1], threads: 256, shared: 0 })
}
