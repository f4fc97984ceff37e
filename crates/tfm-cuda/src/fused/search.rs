//! The kernels of the last step of a search.

use super::{linear, row_threads, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Linear, TopLogProbabilities};
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
    let (n, v, stride) = rows(inputs[0].layout);
    let [values, ids] = outputs else { unreachable!("two outputs") };
    let call = cuda.call("search", typed("top_log_probabilities", inputs[0].dtype));
    let call = call.source(&inputs[0]).stride(stride).source(&inputs[1]);
    let call = call.target(values).target(ids).count(v).count(op.k);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(v), shared: 0 })
}

/// The best of a product with a vocabulary, as `kernel` finds them in logits of the operands' type: x, the weight, the bias if
/// there is one, the bans.
pub(super) fn of_linear(
    cuda: &CudaBackend,
    kernel: &str,
    k: usize,
    bias: bool,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let (operands, bans) = inputs.split_at(inputs.len() - 1);
    let (n, v) = (operands[0].layout.shape()[0], operands[1].layout.shape()[0]);
    if k == 0 || n == 0 {
        return Ok(());
    }
    let dtype = operands[0].dtype;
    let mut logits = cuda.scratch(dtype, n * v)?;
    let layout = Layout::contiguous(&Shape::from([n, v]));
    let mut target = ViewMut { buffer: &mut *logits, dtype, layout: &layout };
    linear::run(cuda, &Linear { bias, ..Linear::default() }, operands, &mut target)?;
    let [values, ids] = outputs else { unreachable!("two outputs") };
    let logits = View { buffer: &*logits, dtype, layout: &layout };
    let call = cuda.call("search", typed(kernel, dtype)).source(&logits).stride(v);
    let call = call.source(&bans[0]).target(values).target(ids).count(v).count(k);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(v), shared: 0 })
}
