//! The device: found, opened, and what can go wrong with it in words.

use cudarc::driver::{CudaContext, CudaStream, DriverError, sys};
use std::sync::Arc;
use tfm_core::BackendError;
use tfm_core::backend::Outcome;

/// An error of the device.
pub(crate) fn device_error(problem: impl Into<String>) -> BackendError {
    BackendError::Device { backend: "cuda".into(), problem: problem.into() }
}

/// The driver's error, with what was being done.
pub(crate) fn driver_error(doing: &str, error: DriverError) -> BackendError {
    device_error(format!("{doing}: {:?}", error.0))
}

/// Opens a device and makes a stream on it.
///
/// # Errors
/// There is no driver, or no such device, or it cannot be used.
pub(crate) fn open(ordinal: usize) -> Outcome<Arc<CudaStream>> {
    // SAFETY: it loads the library, if it is there, whose initialisation is the driver's affair.
    if !unsafe { sys::is_culib_present() } {
        return Err(device_error(
            "no CUDA driver found; install NVIDIA's driver, or compute on the CPU",
        ));
    }
    let opened =
        |error: DriverError| driver_error(&format!("device {ordinal} cannot be opened"), error);
    let count = CudaContext::device_count().map_err(opened)?;
    if ordinal as i64 >= i64::from(count) {
        return Err(device_error(format!(
            "there is no device {ordinal}; {count} found, counted from 0"
        )));
    }
    let context = CudaContext::new(ordinal).map_err(opened)?;
    // SAFETY: nothing has been allocated yet, and all work goes to the one stream made here, in order.
    unsafe { context.disable_event_tracking() };
    context.new_stream().map_err(opened)
}
