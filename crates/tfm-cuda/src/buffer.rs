//! Device memory.

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use tfm_core::{DType, Layout};

/// Memory of the device that holds elements of one type.
#[derive(Debug)]
pub struct Buffer {
    pub(crate) dtype: DType,
    pub(crate) form: Form,
    pub(crate) data: CudaSlice<u8>,
}

/// What the memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Elements; a layout says where each one lies.
    Elements,
    /// Quantised rows, as [`crate::quantized`] lays them out.
    Quantized,
}

impl Buffer {
    /// How many elements there are.
    pub(crate) fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// Panics if the layout reaches outside of this buffer, so that no kernel touches what is not
    /// there.
    pub(crate) fn expect_inside(&self, layout: &Layout) {
        assert_eq!(self.form, Form::Elements, "only kernels for quantised rows take them");
        let (end, elements) = (layout.end(), self.elements());
        assert!(end <= elements, "{end} elements are named, the buffer has {elements}");
    }

    /// The address of an element.
    pub(crate) fn at(&self, offset: usize, stream: &CudaStream) -> u64 {
        // cudarc's guard records events. They are switched off, since one stream does all the work.
        self.data.device_ptr(stream).0 + (offset * self.dtype.size()) as u64
    }

    /// The address of an element that a kernel will write.
    pub(crate) fn at_mut(&mut self, offset: usize, stream: &CudaStream) -> u64 {
        self.data.device_ptr_mut(stream).0 + (offset * self.dtype.size()) as u64
    }
}
