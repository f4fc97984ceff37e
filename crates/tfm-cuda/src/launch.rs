//! Kernels: loaded by name, and launched with as many threads as there are elements.

use crate::device::{device_error, driver_error};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tfm_core::Layout;
use tfm_core::backend::Outcome;

const PTX: &str = include_str!("../kernels/primitives.ptx");

/// Threads of a block.
const THREADS: u32 = 256;
/// The most axes of an operand; `AXES` of the kernels.
const AXES: usize = 8;

/// A layout as the kernels take it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct View {
    axes: i32,
    shape: [i32; AXES],
    strides: [i64; AXES],
    offset: i64,
}

// SAFETY: `View` of kernels/primitives.cu has the same fields, types and order, and C's layout.
unsafe impl DeviceRepr for View {}

impl View {
    /// # Errors
    /// More axes, or larger ones, than the kernels take.
    pub(crate) fn new(layout: &Layout) -> Outcome<View> {
        let (axes, shape) = (layout.shape().len(), layout.shape());
        if axes > AXES || shape.iter().any(|extent| i32::try_from(*extent).is_err()) {
            return Err(device_error(format!(
                "an operand of shape {shape} is too large for the kernels"
            )));
        }
        let mut view = View {
            axes: axes as i32,
            shape: [1; AXES],
            strides: [0; AXES],
            offset: layout.offset() as i64,
        };
        for axis in 0..axes {
            view.shape[axis] = shape[axis] as i32;
            view.strides[axis] = layout.strides()[axis] as i64;
        }
        Ok(view)
    }
}

/// A kernel's argument.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    Pointer(u64),
    View(View),
    Count(u32),
    Signed(i32),
    Stride(i64),
    Bits16(u16),
}

/// A number of elements as the kernels count them.
///
/// # Errors
/// More than they can.
pub(crate) fn count(n: usize) -> Outcome<u32> {
    u32::try_from(n)
        .map_err(|_| device_error(format!("{n} elements are more than a kernel counts")))
}

/// The module with the kernels, and those that have been looked up.
#[derive(Debug)]
pub(crate) struct Kernels {
    module: Arc<CudaModule>,
    found: Mutex<HashMap<String, CudaFunction>>,
}

impl Kernels {
    pub(crate) fn load(context: &Arc<CudaContext>) -> Outcome<Kernels> {
        let module = context.load_module(Ptx::from_src(PTX)).map_err(|error| {
            driver_error("the driver does not take the kernels; it may be older than 11.0", error)
        })?;
        Ok(Kernels { module, found: Mutex::default() })
    }

    fn get(&self, name: &str) -> Outcome<CudaFunction> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = found.get(name) {
            return Ok(function.clone());
        }
        let missing = |error| driver_error(&format!("kernel {name}"), error);
        let function = self.module.load_function(name).map_err(missing)?;
        found.insert(name.into(), function.clone());
        Ok(function)
    }

    /// Runs a kernel with at least `n` threads. Its arguments must be those of its source.
    pub(crate) fn launch(
        &self,
        stream: &CudaStream,
        name: &str,
        n: usize,
        arguments: &[Argument],
    ) -> Outcome {
        if n == 0 {
            return Ok(());
        }
        let function = self.get(name)?;
        let mut launch = stream.launch_builder(&function);
        for argument in arguments {
            match argument {
                Argument::Pointer(x) => launch.arg(x),
                Argument::View(x) => launch.arg(x),
                Argument::Count(x) => launch.arg(x),
                Argument::Signed(x) => launch.arg(x),
                Argument::Stride(x) => launch.arg(x),
                Argument::Bits16(x) => launch.arg(x),
            };
        }
        let config = LaunchConfig {
            grid_dim: (count(n)?.div_ceil(THREADS), 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the callers in `backend` pass what the kernel declares: pointers to buffers that hold every element its
        // views and counts name.
        unsafe { launch.launch(config) }
            .map_err(|error| driver_error(&format!("kernel {name}"), error))?;
        Ok(())
    }
}
