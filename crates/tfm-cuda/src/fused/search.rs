//! The kernel of the last step of a search.

use super::{row_threads, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::TopLogProbabilities;

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
