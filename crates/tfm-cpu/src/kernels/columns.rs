//! Where the output columns of a weight that is to be packed come from: memory as it lies, or rows
//! that are read when they are packed.

use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use tfm_core::RowSource;

use super::aligned::{Aligned, Zeroed};
use super::pack::Strided;
use super::threads::{SharedMut, Threads};

/// A weight `[n, k]` whose output columns are had in parts.
pub trait Columns: Sync {
    /// n and k.
    fn extents(&self) -> [usize; 2];
    /// Elements of memory that [`Columns::part`] takes for so many columns.
    fn memory(&self, columns: usize) -> usize;
    /// Some of the columns.
    fn part<'a>(&'a self, columns: Range<usize>, memory: &'a mut [f32]) -> Strided<'a>;
}

impl Columns for Strided<'_> {
    fn extents(&self) -> [usize; 2] {
        [self.n, self.k]
    }

    fn memory(&self, _: usize) -> usize {
        0
    }

    fn part<'a>(&'a self, columns: Range<usize>, _: &'a mut [f32]) -> Strided<'a> {
        let start = (columns.start * self.column_stride).min(self.data.len());
        Strided { data: &self.data[start..], n: columns.len(), ..*self }
    }
}

/// The rows of a matrix as the output columns of a weight.
pub struct Read<'a>(pub &'a dyn RowSource);

impl Columns for Read<'_> {
    fn extents(&self) -> [usize; 2] {
        self.0.extents()
    }

    fn memory(&self, columns: usize) -> usize {
        columns.saturating_mul(self.extents()[1])
    }

    fn part<'a>(&'a self, columns: Range<usize>, memory: &'a mut [f32]) -> Strided<'a> {
        let [_, k] = self.extents();
        let data = &mut memory[..columns.len() * k];
        self.0.read(columns.start, data);
        Strided { data, n: columns.len(), k, column_stride: k, input_stride: 1 }
    }
}

/// Bytes of memory that the panels which are packed together may take: what a second-level cache
/// holds beside them.
const BLOCK: usize = 256 << 10;

/// The most panels that are packed together.
pub const PANELS_TOGETHER: usize = 16;

/// Calls `pack` for all of `panels`, some neighbours at a time, on all threads: with the numbers of
/// these, and with `memory` elements for each of them. `work` is the operations that one takes.
///
/// # Errors
/// There is no memory.
pub fn pack_panels<T: Zeroed + Send>(
    threads: &Threads,
    panels: usize,
    work: usize,
    memory: usize,
    pack: impl Fn(Range<usize>, &mut [T]) + Sync,
) -> Result<(), TryReserveError> {
    let tasks = threads.tasks(panels.saturating_mul(work), panels).min(threads.count());
    let together = (BLOCK / memory.saturating_mul(size_of::<T>()).max(1)).clamp(1, PANELS_TOGETHER);
    let together = together.min(panels.div_ceil(tasks)).max(1);
    let each = memory.saturating_mul(together);
    let mut memory = Aligned::<T>::new(each.saturating_mul(tasks))?;
    let memory = SharedMut::new(&mut memory);
    // In order, so that a file is read from its start to its end.
    let next = AtomicUsize::new(0);
    threads.run(tasks, |task| {
        // SAFETY: each task has its own.
        let memory = unsafe { memory.slice(task * each..(task + 1) * each) };
        loop {
            let first = next.fetch_add(together, Ordering::Relaxed);
            if first >= panels {
                return;
            }
            pack(first..panels.min(first + together), memory);
        }
    });
    Ok(())
}
