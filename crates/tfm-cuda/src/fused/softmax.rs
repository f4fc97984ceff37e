//! The kernels of softmax and its logarithm.

use super::{row_threads, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::Softmax;

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Softmax,
    x: &View<'_, Buffer>,
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let (n, width, stride) = rows(x.layout);
    let call = cuda.call("softmax", typed("softmax", out.dtype)).source(x).stride(stride);
    let call = call.signed(i32::from(op.log)).target(out).count(width);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(width), shared: 0 })
}
