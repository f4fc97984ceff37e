//! Memory of the device that kernels use between their launches.

use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use std::sync::{Mutex, PoisonError};
use tfm_core::backend::Outcome;
use tfm_core::{Backend, DType};

/// Scratch memory, as much as was ever asked for at once. All work goes to one stream, in order, so that one piece serves all
/// who lock it while they launch. Work that is recorded has been run before: while a stream records, nothing should grow.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// The last is used. The smaller ones stay, since a recorded graph may have their addresses.
    buffers: Mutex<Vec<Buffer>>,
}

impl Workspace {
    /// Launches what needs `elements` elements of `f32` of any content, aligned to 256 bytes.
    ///
    /// # Errors
    /// No memory is left, or `launch` fails.
    pub(crate) fn with<T>(
        &self,
        cuda: &CudaBackend,
        elements: usize,
        launch: impl FnOnce(&mut Buffer) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let largest = buffers.last().map_or(0, Buffer::elements);
        if largest < elements {
            // Doubled, so that what stays behind is not more than what is used.
            let wanted = elements.max(2 * largest);
            buffers.push(cuda.allocate(DType::F32, wanted)?);
        }
        let last = buffers.len() - 1;
        launch(&mut buffers[last])
    }
}
