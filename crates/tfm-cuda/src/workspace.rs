//! Device memory that kernels use between their launches.

use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use tfm_core::backend::Outcome;
use tfm_core::{Backend, DType};

/// The size of the smallest piece, in bytes.
const LEAST: usize = 1 << 10;

/// Scratch memory in pieces whose sizes are powers of two. A returned piece serves the next caller
/// that asks for its size: all work goes to one stream, in order. The backend frees no piece before
/// it is dropped, since recorded graphs hold their addresses. A run is recorded only after it has
/// been made before, and so finds as many pieces of each size as it needs.
/// made before, finds as many pieces of each size as it needs.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// The free pieces by their size in bytes.
    free: Mutex<HashMap<usize, Vec<Buffer>>>,
}

/// Scratch memory, aligned to 256 bytes. Its content is arbitrary. It returns to the workspace when
/// it is dropped.
pub(crate) struct Scratch<'a> {
    /// `None` only while it is being dropped.
    buffer: Option<Buffer>,
    bytes: usize,
    workspace: &'a Workspace,
}

impl Workspace {
    /// Takes memory for at least so many elements.
    ///
    /// # Errors
    /// There is no memory left.
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
