//! Finds and opens the device, and says in words what is wrong with it.

use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use std::sync::Arc;
use tfm_core::BackendError;
use tfm_core::backend::Outcome;

/// An error of the device.
pub(crate) fn device_error(problem: impl Into<String>) -> BackendError {
    BackendError::Device { backend: "cuda".into(), problem: problem.into() }
}

/// The driver's error, together with what this code was doing.
pub(crate) fn driver_error(doing: &str, error: DriverError) -> BackendError {
    device_error(format!("{doing}: {:?}", error.0))
}

/// The oldest driver that supports everything this code calls, as 1000·major + 10·minor of its CUDA
/// version. Version 11.4 brought the instantiation of graphs with flags.
const OLDEST_DRIVER: i32 = 11_040;
/// The lowest compute capability that the kernels run on.
const LEAST_CAPABILITY: i32 = 8;

/// Returns the name of a device that can be used.
///
/// # Errors
/// There is no driver or no such device, or one of the two is too old.
pub fn probe(ordinal: usize) -> Outcome<String> {
    // SAFETY: this loads the library if it is installed; the driver answers for its initialisation.
    if !unsafe { sys::is_culib_present() } {
        return Err(device_error(
            "no CUDA driver found; install NVIDIA's driver, or compute on the CPU",
        ));
    }
    let version = driver_version()?;
    if version < OLDEST_DRIVER {
        let [found, oldest] =
            [version, OLDEST_DRIVER].map(|v| format!("{}.{}", v / 1000, v % 1000 / 10));
        return Err(device_error(format!(
            "the driver is for CUDA {found}, and {oldest} or newer is needed; update NVIDIA's driver"
        )));
    }
    let failed =
        |error: DriverError| driver_error(&format!("device {ordinal} cannot be used"), error);
    let count = CudaContext::device_count().map_err(failed)?;
    let number = i32::try_from(ordinal).ok().filter(|number| *number < count);
    let number = number.ok_or_else(|| {
        device_error(format!("there is no device {ordinal}; {count} found, counted from 0"))
    })?;
    let device = result::device::get(number).map_err(failed)?;
    let attribute = |attribute| {
        // SAFETY: `device` is a device of this driver.
        unsafe { result::device::get_attribute(device, attribute) }.map_err(failed)
    };
    let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    if major < LEAST_CAPABILITY {
        return Err(device_error(format!(
            "device {ordinal} has compute capability {major}; the kernels need {LEAST_CAPABILITY} (Ampere) or more"
        )));
    }
    result::device::get_name(device).map_err(failed)
}

/// Opens a device and makes a stream on it.
///
/// # Errors
/// Those of [`probe`]; the device cannot be opened, or has no memory left.
pub(crate) fn open(ordinal: usize) -> Outcome<Arc<CudaStream>> {
    probe(ordinal)?;
    let failed =
        |error: DriverError| driver_error(&format!("device {ordinal} cannot be opened"), error);
    let context = CudaContext::new(ordinal).map_err(failed)?;
    // SAFETY: nothing has been allocated yet, and this code synchronises streams before one of them
    // reads what another has written.
    unsafe { context.disable_event_tracking() };
    if context.has_async_alloc() {
        keep_freed_memory(context.cu_device()).map_err(failed)?;
    }
    context.new_stream().map_err(failed)
}

/// Tells the device's memory pool to keep what is freed. By default the pool returns it to the
/// system at each synchronisation.
fn keep_freed_memory(device: sys::CUdevice) -> Result<(), DriverError> {
    let mut most = u64::MAX;
    let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device has a pool, and the driver copies the attribute, a 64-bit number.
    unsafe {
        let pool = result::device::get_mem_pool(device)?;
        result::mem_pool::set_attribute(pool, threshold, (&raw mut most).cast())
    }
}

/// The CUDA version of the driver.
fn driver_version() -> Outcome<i32> {
    let mut version = 0;
    // SAFETY: the driver is loaded, and writes a single number.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    answer.result().map_err(|error| driver_error("version", error))?;
    Ok(version)
}
