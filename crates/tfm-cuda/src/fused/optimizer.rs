//! The kernels of an update: the squared length of a gradient, and Adam.

use super::{pack, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Adam, AdamInPlace, AdamOperands};
use tfm_core::op::ReduceOp;
use tfm_core::{DType, Layout, Shape};

/// The elements whose squares a block sums; `CHUNK` of the kernel.
const CHUNK: usize = 256 * 64;

pub(super) fn sum_of_squares(
    cuda: &CudaBackend,
    x: &View<'_, Buffer>,
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let n = x.layout.shape().elements();
    let blocks = n.div_ceil(CHUNK);
    let mut sums = cuda.scratch(DType::F32, blocks)?;
    let call = cuda.call("optimizer", typed("sum_of_squares", x.dtype)).source(x);
    let call = call.scratch(&mut sums, blocks).count(n);
    call.launch(Grid { blocks: [blocks, 1, 1], threads: 256, shared: 0 })?;
    let layout = Layout::contiguous(&Shape::from([blocks]));
    let sums = View { buffer: &*sums, dtype: DType::F32, layout: &layout };
    cuda.reduce_lines(ReduceOp::Sum, 0, sums, out)
}

/// Updates the parameter and its moments in their own memory.
pub(super) fn adam(
    cuda: &CudaBackend,
    op: &Adam,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let AdamOperands { gradient, rates, scale } = op.operands(inputs);
    let AdamInPlace { parameter, first_moment, second_moment } = AdamInPlace::of(outputs);
    let n = parameter.layout.shape().elements();
    let call = cuda.call("optimizer", "adam");
    let call = call.source(&gradient).source(&rates).source(&scale);
    let call = call.float(op.beta1).float(1.0 - op.beta1).float(op.beta2).float(1.0 - op.beta2);
    let call = call.float(op.epsilon).float(op.weight_decay);
    let call = call.target(parameter).target(first_moment).target(second_moment);
    call.each_of(n, pack(DType::F32))
}
