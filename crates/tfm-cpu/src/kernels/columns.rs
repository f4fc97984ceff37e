//! The sources of a weight's output columns when it is packed: memory as it lies, or rows that are
//! read only then.

use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use tfm_core::RowSource;

use super::aligned::{Aligned, Zeroed};
use super::pack::Strided;
use super::threads::{SharedMut, Threads};

/// A weight `[n, k]` that gives its output columns in parts.
pub trait Columns: Sync {
    /// n and k.
    fn extents(&self) -> [usize; 2];
    /// Elements of memory that [`Columns::part`] needs for this number of columns.
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

/// The most bytes of memory that panels packed together may take. A second-level cache holds them
/// and more.
const BLOCK: usize = 256 << 10;

/// The most panels that are packed together.
pub const PANELS_TOGETHER: usize = 16;

/// Calls `pack` for all of `panels`, several neighbours at a time, on all threads. It gets the
/// numbers of these panels, and `memory` elements for each of them. `work` is the number of
/// operations for one panel.
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
    // Panels are taken in order, so that a file is read from its start to its end.
    let next = AtomicUsize::new(0);
    threads.run(tasks, |task| {
        // SAFETY: each task has a part of its own.
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
