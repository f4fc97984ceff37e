//! The kernels of layer normalisation, RMS normalisation and their gradients.

use super::{row_threads, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::LayerNormGradientOperands;
use tfm_core::op::ReduceOp;
use tfm_core::{DType, Layout, Shape};

/// The elements of a row that each thread computes; `ELEMENTS` of the kernel.
const ELEMENTS: usize = 16;
/// The longest row that there is a kernel for.
pub(super) const LONGEST: usize = 512 * ELEMENTS;

/// `kernel` is `layer_norm` or `rms_norm`. `vectors` are the weight and, where there is one, the
/// bias.
pub(super) fn run(
    cuda: &CudaBackend,
    kernel: &str,
    epsilon: f64,
    x: View<'_, Buffer>,
    vectors: &[View<'_, Buffer>],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let (n, d, stride) = rows(x.layout);
    let call = cuda.call("norm", typed(kernel, out.dtype)).source(&x).stride(stride);
    let call = vectors.iter().fold(call, |call, vector| call.source(vector));
    let call = call.float(epsilon).target(out).count(d);
    call.launch(Grid { blocks: [n, 1, 1], threads: row_threads(d), shared: 0 })
}

/// `kernel` is `layer_norm_gradient` or `rms_norm_gradient`. The outputs are the gradients of x, of
/// the weight and, where there is one, of the bias.
pub(super) fn run_gradient(
    cuda: &CudaBackend,
    kernel: &str,
    epsilon: f64,
    operands: LayerNormGradientOperands<View<'_, Buffer>>,
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let LayerNormGradientOperands { x, weight, dy } = operands;
    let (n, d, x_stride) = rows(x.layout);
    let (_, _, dy_stride) = rows(dy.layout);
    let (dx, vectors) = outputs.split_first_mut().expect("the gradient of x");
    let width = vectors.len() * d;
    // The number of blocks is high enough for any device, and low enough that few sums remain to
    // add.
    let rows_each = n.div_ceil(1024).clamp(4, 64);
    let blocks = n.div_ceil(rows_each);
    let mut sums = cuda.scratch(DType::F32, blocks * width)?;
    let call = cuda.call("norm", typed(kernel, dx.dtype));
    let call = call.source(&x).stride(x_stride).source(&weight);
    let call = call.source(&dy).stride(dy_stride).float(epsilon).target(dx);
    let call = call.scratch(&mut sums, blocks * width).count(d).count(n).count(rows_each);
    call.launch(Grid { blocks: [blocks, 1, 1], threads: row_threads(d), shared: 0 })?;
    for (part, out) in vectors.iter_mut().enumerate() {
        let layout = Layout::from_parts(Shape::from([blocks, d]), &[width, 1], part * d);
        let sums = View { buffer: &*sums, dtype: DType::F32, layout: &layout };
        cuda.reduce_lines(ReduceOp::Sum, 0, sums, out)?;
    }
    Ok(())
}
