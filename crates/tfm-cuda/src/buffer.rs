//! Device memory.

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use tfm_core::DType;

/// Memory of the device, of one element type.
#[derive(Debug)]
pub struct Buffer {
    pub(crate) dtype: DType,
    pub(crate) data: CudaSlice<u8>,
}

impl Buffer {
    /// The address of an element.
    pub(crate) fn at(&self, offset: usize, stream: &CudaStream) -> u64 {
        // The guard records events, which are switched off: one stream does all.
        self.data.device_ptr(stream).0 + (offset * self.dtype.size()) as u64
    }

    /// The address of an element that will be written.
    pub(crate) fn at_mut(&mut self, offset: usize, stream: &CudaStream) -> u64 {
        self.data.device_ptr_mut(stream).0 + (offset * self.dtype.size()) as u64
    }
}
