//! The kernels of layer normalisation and its gradient.

use super::{row_threads, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{LayerNorm, LayerNormGradient};
use tfm_core::op::ReduceOp;
use tfm_core::{DType, Layout, Shape};

/// The elements of a row that a thread has; `ELEMENTS` of the kernel.
const ELEMENTS: usize = 16;
/// The longest row there is a kernel for.
pub(super) const LONGEST: usize = 512 * ELEMENTS;

pub(super) fn run(
    cuda: &CudaBackend,
    op: &LayerNorm,
    inputs: &[View<'_, Buffer>],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let (n, d, stride) = rows(inputs[0].layout);
    let call = cuda.call("norm", typed("layer_norm", out.dtype));
    let call = call.source(&inputs[0]).stride(stride).source(&inputs[1]).source(&inputs[2]);
    let call = call.float(op.epsilon).target(out).count(d);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(d), shared: 0 })
}

pub(super) fn run_gradient(
    cuda: &CudaBackend,
    op: &LayerNormGradient,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let (n, d, x_stride) = rows(inputs[0].layout);
    let (_, _, dy_stride) = rows(inputs[2].layout);
    let [dx, d_weight, d_bias] = outputs else { unreachable!("three outputs") };
    // Enough blocks for any device, and few enough sums.
    let rows_each = n.div_ceil(1024).clamp(4, 64);
    let blocks = n.div_ceil(rows_each);
    let mut sums = cuda.scratch(DType::F32, blocks * 2 * d)?;
    let call = cuda.call("norm", typed("layer_norm_gradient", dx.dtype));
    let call = call.source(&inputs[0]).stride(x_stride).source(&inputs[1]);
    let call = call.source(&inputs[2]).stride(dy_stride).float(op.epsilon).target(dx);
    let call = call.scratch(&mut sums, blocks * 2 * d).count(d).count(n).count(rows_each);
    call.launch(Grid { blocks: [blocks, 1, 1], threads: row_threads(d), shared: 0 })?;
    for (part, out) in [d_weight, d_bias].into_iter().enumerate() {
        let layout = Layout::from_parts(Shape::from([blocks, d]), &[2 * d, 1], part * d);
        let sums = View { buffer: &*sums, dtype: DType::F32, layout: &layout };
        cuda.reduce_lines(ReduceOp::Sum, 0, sums, out)?;
    }
    Ok(())
}
