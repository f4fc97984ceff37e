//! Memory of the device that kernels use between their launches.

use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use tfm_core::backend::Outcome;
use tfm_core::{Backend, DType};

/// The least bytes of a piece.
const LEAST: usize = 1 << 10;

/// Scratch memory in pieces whose sizes are powers of two. A piece that is given back serves the
/// next who asks for its size: all work goes to one stream, in order. None is freed as long as the
/// backend lives, since a recorded graph has its address; and a run that is recorded, having been
/// made before, finds as many pieces of each size as it needs.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// By their bytes.
    free: Mutex<HashMap<usize, Vec<Buffer>>>,
}

/// Scratch memory of any content, aligned to 256 bytes, which goes back when this is dropped.
pub(crate) struct Scratch<'a> {
    /// `None` once it is dropped.
    buffer: Option<Buffer>,
    bytes: usize,
    workspace: &'a Workspace,
}

impl Workspace {
    /// At least so many elements.
    ///
    /// # Errors
    /// No memory is left.
    pub(crate) fn take(
        &self,
        cuda: &CudaBackend,
        dtype: DType,
        elements: usize,
    ) -> Outcome<Scratch<'_>> {
        let bytes = elements.saturating_mul(dtype.size()).max(LEAST);
        let bytes = bytes.checked_next_power_of_two().unwrap_or(usize::MAX);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free.get_mut(&bytes).and_then(Vec::pop);
        drop(free);
        let mut buffer = match found {
            Some(buffer) => buffer,
            None => cuda.allocate(DType::F32, bytes / DType::F32.size())?,
        };
        buffer.dtype = dtype;
        Ok(Scratch { buffer: Some(buffer), bytes, workspace: self })
    }
}

const PRESENT: &str = "it is there until it is dropped";

impl Deref for Scratch<'_> {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        self.buffer.as_ref().expect(PRESENT)
    }
}

impl DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut Buffer {
        self.buffer.as_mut().expect(PRESENT)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let mut free = self.workspace.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.entry(self.bytes).or_default().extend(self.buffer.take());
    }
}
