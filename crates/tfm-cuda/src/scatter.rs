//! Sums of the rows that have the same id. The device first lists the sources of each row, then a
//! block a row adds them up.

use crate::backend::{CudaBackend, name};
use crate::buffer::Buffer;
use crate::launch::Grid;
use crate::workspace::Scratch;
use tfm_core::backend::{Backend, Outcome, View, ViewMut};
use tfm_core::{DType, Layout, Shape};

impl CudaBackend {
    /// [`Backend::scatter_add`].
    pub(crate) fn sum_by_ids(
        &self,
        src: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        dst: &mut ViewMut<'_, Buffer>,
    ) -> Outcome {
        let rows = dst.layout.shape()[0];
        let width: usize = dst.layout.shape()[1..].iter().product();
        let n = ids.layout.shape().elements();
        if rows * width == 0 {
            return Ok(());
        }
        let as_rows = src.layout.reshape(&Shape::from([n, width]));
        let as_rows = as_rows.filter(|layout| layout.as_rows().is_some());
        let (packed_src, packed_ids);
        let (src, src_layout) = match as_rows {
            Some(layout) => (src, layout),
            None => {
                packed_src = self.packed(src)?;
                let layout = Layout::contiguous(&Shape::from([n, width]));
                (View { buffer: &*packed_src, ..src }, layout)
            }
        };
        let ids_layout = Layout::contiguous(ids.layout.shape());
        let ids = if ids.layout.is_contiguous() {
            ids
        } else {
            packed_ids = self.packed(ids)?;
            View { buffer: &*packed_ids, dtype: DType::I32, layout: &ids_layout }
        };
        let [mut counts, mut starts, mut slots, mut lists] = [
            self.scratch(DType::I32, rows + 1)?,
            self.scratch(DType::I32, rows)?,
            self.scratch(DType::I32, n)?,
            self.scratch(DType::I32, n)?,
        ];
        let layout = Layout::contiguous(&Shape::from([rows + 1]));
        self.fill(0.0, ViewMut { buffer: &mut counts, dtype: DType::I32, layout: &layout })?;
        let kernel = |kernel: &str| self.call("scatter", kernel);
        let call = kernel("scatter_count").source(&ids);
        call.scratch(&mut counts, rows + 1).scratch(&mut slots, n).count(rows).each(n)?;
        let call = kernel("scatter_allot").scratch(&mut counts, rows + 1);
        call.scratch(&mut starts, rows).each(rows)?;
        let call = kernel("scatter_list").source(&ids).written(&starts).written(&slots);
        call.scratch(&mut lists, n).count(rows).each(n)?;
        let (_, _, stride) = src_layout.as_rows().expect("as rows or packed");
        let src = View { layout: &src_layout, ..src };
        let call = kernel(&format!("scatter_add_{}", name(dst.dtype))).source(&src).stride(stride);
        let call = call.source(&ids).written(&counts).written(&starts).written(&lists);
        let call = call.target(dst).count(width).count(n);
        call.launch(Grid { blocks: [rows, 1, 1], threads: 128, shared: 0 })
    }

    /// A contiguous copy.
    pub(crate) fn packed(&self, src: View<'_, Buffer>) -> Outcome<Scratch<'_>> {
        let layout = Layout::contiguous(src.layout.shape());
        let mut buffer = self.scratch(src.dtype, layout.shape().elements())?;
        self.copy(src, ViewMut { buffer: &mut buffer, dtype: src.dtype, layout: &layout })?;
        Ok(buffer)
    }
}
