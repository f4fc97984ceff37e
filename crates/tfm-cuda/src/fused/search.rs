//! The kernels of the last step of search.

use super::{linear, row_threads, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Linear, LinearOperands, TopLogProbabilities, TopLogProbabilitiesOperands};
use tfm_core::{Layout, Shape};

pub(super) fn run(
    cuda: &CudaBackend,
    op: &TopLogProbabilities,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    if op.k == 0 {
        return Ok(());
    }
    let TopLogProbabilitiesOperands { logits, bias } = op.operands(inputs);
    let (n, v, stride) = rows(logits.layout);
    let [values, ids] = outputs else { unreachable!("two outputs") };
    let call = cuda.call("search", typed("top_log_probabilities", logits.dtype));
    let call = call.source(&logits).stride(stride).source(&bias);
    let call = call.target(values).target(ids).count(v).count(op.k);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(v), shared: 0 })
}

/// Finds the best columns of a product with a vocabulary. `kernel` finds them in the logits, which
/// have the operands' type.
pub(super) fn of_linear(
    cuda: &CudaBackend,
    kernel: &str,
    k: usize,
    layer: LinearOperands<View<'_, Buffer>>,
    bans: View<'_, Buffer>,
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let (n, v) = (layer.x.layout.shape()[0], layer.weight.layout.shape()[0]);
    if k == 0 || n == 0 {
        return Ok(());
    }
    let dtype = layer.x.dtype;
    let mut logits = cuda.scratch(dtype, n * v)?;
    let layout = Layout::contiguous(&Shape::from([n, v]));
    let mut target = ViewMut { buffer: &mut *logits, dtype, layout: &layout };
    let linear = Linear { bias: layer.bias.is_some(), ..Linear::default() };
    linear::run(cuda, &linear, layer, &mut target)?;
    let [values, ids] = outputs else { unreachable!("two outputs") };
    let logits = View { buffer: &*logits, dtype, layout: &layout };
    let call = cuda.call("search", typed(kernel, dtype)).source(&logits).stride(v);
    let call = call.source(&bans).target(values).target(ids).count(v).count(k);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(v), shared: 0 })
}
