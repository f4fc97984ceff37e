//! Device memory.

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use tfm_core::{DType, Layout};

/// Memory of the device, of one element type.
#[derive(Debug)]
pub struct Buffer {
    pub(crate) dtype: DType,
    pub(crate) form: Form,
    pub(crate) data: CudaSlice<u8>,
}

/// What the memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Elements, where layouts say.
    Elements,
    /// The rows of [`crate::quantized`].
    Quantized,
}

impl Buffer {
    /// How many elements there are.
    pub(crate) fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// Checks that a layout stays inside: what a kernel is told to touch exists.
    pub(crate) fn expect_inside(&self, layout: &Layout) {
        assert_eq!(self.form, Form::Elements, "only kernels for quantised rows take them");
        let (end, elements) = (layout.end(), self.elements());
        assert!(end <= elements, "{end} elements are named, the buffer has {elements}");
    }

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
