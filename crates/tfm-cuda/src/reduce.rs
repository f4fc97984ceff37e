//! Reductions along an axis: which kernel reads a line, and how long lines are cut into parts.

use crate::backend::{CudaBackend, name};
use crate::buffer::Buffer;
use crate::launch::Grid;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::op::ReduceOp;
use tfm_core::{DType, Layout, Shape};

/// A warp instead of a thread reads a contiguous line from this length on. Beyond this length a
/// block reads a line that is not contiguous.
const WARP_LINE: usize = 32;
/// The elements of a part; `LENGTH` of the kernels.
const LENGTH: usize = 256;
/// Lines that a block reads together where their elements are not contiguous.
const COLUMNS: usize = 32;

impl CudaBackend {
    /// [`Backend::reduce`] into a destination of any shape that has one element for each line. The
    /// destination may have any float type if the source is `f32`.
    pub(crate) fn reduce_lines(
        &self,
        op: ReduceOp,
        axis: usize,
        src: View<'_, Buffer>,
        dst: &mut ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let (extent, stride) = (src.layout.shape()[axis], src.layout.strides()[axis]);
        let shape = src.layout.shape().with_extent(axis, 1);
        let lines = Layout::from_parts(shape, src.layout.strides(), src.layout.offset());
        let number = match op {
            ReduceOp::Sum => 0,
            ReduceOp::Max => 1,
        };
        let call = |size, to| {
            let kernel = format!("reduce_{size}_{}_{}", name(src.dtype), name(to));
            self.call("reduce", kernel).signed(number).strided_as(&src, &lines).count(extent)
        };
        let grid = |blocks| Grid { blocks: [blocks, 1, 1], threads: 256, shared: 0 };
        if stride == 1 && (WARP_LINE..=LENGTH).contains(&extent) {
            return call("warp", dst.dtype).target(dst).count(n).launch(grid(n.div_ceil(8)));
        }
        let kept = if src.dtype == DType::I32 { DType::I32 } else { DType::F32 };
        if stride == 1 && extent > LENGTH {
            let segments = extent.div_ceil(LENGTH * LENGTH);
            if segments == 1 {
                return call("block", dst.dtype).count(1).target(dst).launch(grid(n));
            }
            let mut partial = self.scratch(kept, n * segments)?;
            let call = call("block", kept).count(segments).scratch(&mut partial, n * segments);
            call.launch(grid(n * segments))?;
            let layout = Layout::contiguous(&Shape::from([n, segments]));
            return self.reduce_lines(
                op,
                1,
                View { buffer: &*partial, dtype: kept, layout: &layout },
                dst,
            );
        }
        if extent <= WARP_LINE {
            return call("thread", dst.dtype).stride(stride).target(dst).each(n);
        }
        let (parts, blocks) = (extent.div_ceil(LENGTH), n.div_ceil(COLUMNS));
        if parts == 1 {
            let call = call("columns", dst.dtype).stride(stride).count(blocks);
            return call.target(dst).count(n).launch(grid(blocks));
        }
        let mut partial = self.scratch(kept, parts * n)?;
        let call = call("columns", kept).stride(stride).count(blocks);
        call.scratch(&mut partial, parts * n).count(n).launch(grid(parts * blocks))?;
        let layout = Layout::contiguous(&Shape::from([parts, n]));
        self.reduce_lines(op, 0, View { buffer: &*partial, dtype: kept, layout: &layout }, dst)
    }
}
