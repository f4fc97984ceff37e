//! The functions that programs look up in `libcuda.so`, with the driver's names and signatures.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::state::{Answer, Code, State, Work};
use tfm_ptx_emu::{Device, Problem};

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// Calls `f` with the driver's state, which `cuInit` makes.
fn with<T>(f: impl FnOnce(&mut State) -> Answer<T>) -> Answer<T> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    f(state.as_mut().ok_or(Code::NotInitialized)?)
}

/// Turns an answer into the driver's error code. A panic must not cross into the caller.
fn code(f: impl FnOnce() -> Answer) -> c_int {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code as c_int,
        Err(_) => Code::LaunchFailed as c_int,
    }
}

/// Writes a result to the caller's memory.
fn put<T>(at: *mut T, value: T) -> Answer {
    if at.is_null() {
        return Err(Code::InvalidValue);
    }
    // SAFETY: callers of the driver pass pointers to memory for the result.
    unsafe { at.write(value) };
    Ok(())
}

/// Memory of the caller, to read from.
pub(crate) fn host<'a>(at: usize, bytes: usize) -> Answer<&'a [u8]> {
    if at == 0 {
        return Err(Code::InvalidValue);
    }
    // SAFETY: callers of the driver pass memory of so many bytes. They keep it until the copy is
    // done or, if a graph has recorded the copy, until the last launch of that graph.
    Ok(unsafe { std::slice::from_raw_parts(at as *const u8, bytes) })
}

/// Memory of the caller, to write to.
pub(crate) fn host_mut<'a>(at: usize, bytes: usize) -> Answer<&'a mut [u8]> {
    if at == 0 {
        return Err(Code::InvalidValue);
    }
    // SAFETY: as in `host`, and nothing else touches the memory meanwhile.
    Ok(unsafe { std::slice::from_raw_parts_mut(at as *mut u8, bytes) })
}

/// What another library's work can do with the device's memory. Both functions take `device`. They
/// return 0, or report the fault and return another number.
#[repr(C)]
pub struct DeviceMemory {
    device: *mut c_void,
    read: extern "C" fn(*mut c_void, u64, *mut u8, usize) -> c_int,
    write: extern "C" fn(*mut c_void, u64, *const u8, usize) -> c_int,
}

/// Another library's work: a function that gets the bytes that were enqueued with it. It returns 0
/// if it succeeded.
pub type ForeignWork = extern "C" fn(*const u8, usize, *const DeviceMemory) -> c_int;

extern "C" fn read_device(device: *mut c_void, at: u64, to: *mut u8, bytes: usize) -> c_int {
    // SAFETY: `device` comes from `run_foreign`, which holds the device for as long as the work
    // runs.
    let device = unsafe { &mut *device.cast::<Device>() };
    code(|| {
        let data = device.download(at, bytes).map_err(wrong)?;
        host_mut(to as usize, bytes)?.copy_from_slice(&data);
        Ok(())
    })
}

extern "C" fn write_device(device: *mut c_void, at: u64, from: *const u8, bytes: usize) -> c_int {
    // SAFETY: as in `read_device`.
    let device = unsafe { &mut *device.cast::<Device>() };
    code(|| device.write(at, host(from as usize, bytes)?).map_err(wrong))
}

fn wrong(problem: Problem) -> Code {
    eprintln!("fake CUDA driver: {problem}");
    Code::IllegalAddress
}

/// Runs another library's work on the device.
pub(crate) fn run_foreign(run: ForeignWork, data: &[u8], device: &mut Device) -> Answer {
    let device = std::ptr::from_mut(device).cast();
    let memory = DeviceMemory { device, read: read_device, write: write_device };
    match run(data.as_ptr(), data.len(), &raw const memory) {
        0 => Ok(()),
        _ => Err(Code::LaunchFailed),
    }
}

fn text<'a>(at: *const c_char) -> Answer<&'a str> {
    if at.is_null() {
        return Err(Code::InvalidValue);
    }
    // SAFETY: callers of the driver pass text that ends with a 0 byte.
    unsafe { CStr::from_ptr(at) }.to_str().map_err(|_| Code::InvalidValue)
}

/// Handles are numbers that look like pointers.
type Handle = *mut c_void;

fn handle(number: usize) -> Handle {
    std::ptr::without_provenance_mut(number)
}

/// The CUDA version that the driver reports.
fn version_number() -> c_int {
    let asked = std::env::var("TFM_FAKE_VERSION").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(13_000)
}

/// The only context.
const CONTEXT: usize = 1;

/// Defines functions of the driver.
macro_rules! driver {
    ($(fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of the CUDA driver API; what begins with `tfm` is for other fake libraries.")]
        ///
        /// # Safety
        /// Pointers must be as the driver asks for them.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $ty),*) -> c_int {
            code(|| $body)
        }
    )*};
}

driver! {
    fn cuInit(_flags: c_uint) {
        STATE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(State::new);
        Ok(())
    }
    fn cuDriverGetVersion(version: *mut c_int) { put(version, version_number()) }
    fn cuDeviceGetCount(count: *mut c_int) { put(count, 1) }
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        if ordinal == 0 { put(device, 0) } else { Err(Code::InvalidDevice) }
    }
    fn cuDeviceGetName(name: *mut c_char, len: c_int, _device: c_int) {
        let text = c"PTX interpreter".to_bytes_with_nul();
        let len = usize::try_from(len).map_err(|_| Code::InvalidValue)?;
        let target = host_mut(name as usize, len)?;
        let taken = text.len().min(len);
        target[..taken].copy_from_slice(&text[..taken]);
        Ok(())
    }
    fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) {
        put(bytes, with(|state| Ok(state.memory().1))?)
    }
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        put(value, match attribute {
            1 => 1024,        // MAX_THREADS_PER_BLOCK
            2 | 3 => 1024,    // MAX_BLOCK_DIM_X, Y
            4 => 64,          // MAX_BLOCK_DIM_Z
            5 => i32::MAX,    // MAX_GRID_DIM_X
            6 | 7 => 65_535,  // MAX_GRID_DIM_Y, Z
            8 => 48 << 10,    // MAX_SHARED_MEMORY_PER_BLOCK
            10 => 32,         // WARP_SIZE
            16 => 4,          // MULTIPROCESSOR_COUNT
            75 => 8,          // COMPUTE_CAPABILITY_MAJOR
            76 => 0,          // COMPUTE_CAPABILITY_MINOR
            97 => 227 << 10,  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
            115 => 1,         // MEMORY_POOLS_SUPPORTED
            _ => 0,
        })
    }
    fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) {
        with(|state| state.check())?;
        put(context, handle(CONTEXT))
    }
    fn cuDevicePrimaryCtxRelease_v2(_device: c_int) { Ok(()) }
    fn cuCtxSetCurrent(_context: Handle) { with(|_| Ok(())) }
    fn cuCtxGetCurrent(context: *mut Handle) { put(context, handle(CONTEXT)) }
    fn cuCtxSynchronize() { with(|state| state.check()) }
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let memory = with(|state| Ok(state.memory()))?;
        put(free, memory.0)?;
        put(total, memory.1)
    }
    fn cuMemAlloc_v2(pointer: *mut u64, bytes: usize) {
        put(pointer, with(|state| { state.check()?; state.allocate(bytes) })?)
    }
    fn cuMemAllocAsync(pointer: *mut u64, bytes: usize, _stream: Handle) {
        put(pointer, with(|state| { state.check()?; state.allocate(bytes) })?)
    }
    fn cuMemFree_v2(pointer: u64) { with(|state| state.free(pointer)) }
    fn cuMemFreeAsync(pointer: u64, _stream: Handle) { with(|state| state.free(pointer)) }
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) {
        with(|state| state.submit(0, Work::Upload { to, from: from as usize, bytes }))
    }
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle) {
        with(|state| state.submit(stream.addr(), Work::Upload { to, from: from as usize, bytes }))
    }
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) {
        with(|state| state.submit(0, Work::Download { to: to as usize, from, bytes }))
    }
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle) {
        with(|state| state.submit(stream.addr(), Work::Download { to: to as usize, from, bytes }))
    }
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        with(|state| state.submit(0, Work::Copy { to, from, bytes }))
    }
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        with(|state| state.submit(stream.addr(), Work::Copy { to, from, bytes }))
    }
    fn cuMemsetD8_v2(at: u64, value: u8, bytes: usize) {
        with(|state| state.submit(0, Work::Fill { at, value, bytes }))
    }
    fn cuMemsetD8Async(at: u64, value: u8, bytes: usize, stream: Handle) {
        with(|state| state.submit(stream.addr(), Work::Fill { at, value, bytes }))
    }
    fn cuDeviceGetDefaultMemPool(pool: *mut Handle, _device: c_int) { put(pool, handle(1)) }
    fn cuDeviceGetMemPool(pool: *mut Handle, _device: c_int) { put(pool, handle(1)) }
    fn cuMemPoolSetAttribute(_pool: Handle, _attribute: c_int, _value: *mut c_void) { Ok(()) }
    fn cuMemPoolTrimTo(_pool: Handle, _bytes: usize) { Ok(()) }
    fn cuModuleLoadData(module: *mut Handle, image: *const c_void) {
        let ptx = text(image.cast())?;
        put(module, handle(with(|state| state.load(ptx))?))
    }
    fn cuModuleLoadDataEx(
        module: *mut Handle,
        image: *const c_void,
        _count: c_uint,
        _options: *mut c_int,
        _values: *mut *mut c_void,
    ) {
        let ptx = text(image.cast())?;
        put(module, handle(with(|state| state.load(ptx))?))
    }
    fn cuModuleUnload(module: Handle) { with(|state| state.unload(module.addr())) }
    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) {
        let name = text(name)?;
        put(function, handle(with(|state| state.function(module.addr(), name))?))
    }
    fn cuFuncSetAttribute(function: Handle, _attribute: c_int, _value: c_int) {
        with(|state| state.parameters(function.addr()).map(|_| ()))
    }
    fn cuLaunchKernel(
        function: Handle,
        blocks_x: c_uint,
        blocks_y: c_uint,
        blocks_z: c_uint,
        threads_x: c_uint,
        threads_y: c_uint,
        threads_z: c_uint,
        shared: c_uint,
        stream: Handle,
        parameters: *mut *mut c_void,
        _extra: *mut *mut c_void,
    ) {
        with(|state| {
            let sizes = state.parameters(function.addr())?;
            let mut arguments = Vec::with_capacity(sizes.len());
            for (i, size) in sizes.into_iter().enumerate() {
                if parameters.is_null() {
                    return Err(Code::InvalidValue);
                }
                // SAFETY: the caller passes one pointer for each of the kernel's parameters.
                let argument = unsafe { *parameters.add(i) };
                arguments.push(host(argument as usize, size)?.to_vec());
            }
            state.submit(stream.addr(), Work::Launch {
                function: function.addr(),
                blocks: [blocks_x, blocks_y, blocks_z],
                threads: [threads_x, threads_y, threads_z],
                shared: shared as usize,
                arguments,
            })
        })
    }
    fn tfmFakeEnqueue(stream: Handle, run: Option<ForeignWork>, data: *const u8, bytes: usize) {
        let (run, data) = (run.ok_or(Code::InvalidValue)?, host(data as usize, bytes)?.to_vec());
        with(|state| state.submit(stream.addr(), Work::Foreign { run, data }))
    }
    fn cuStreamCreate(stream: *mut Handle, _flags: c_uint) {
        put(stream, handle(with(|state| Ok(state.make_stream()))?))
    }
    fn cuStreamCreateWithPriority(stream: *mut Handle, _flags: c_uint, _priority: c_int) {
        put(stream, handle(with(|state| Ok(state.make_stream()))?))
    }
    fn cuStreamDestroy_v2(stream: Handle) { with(|state| state.end_stream(stream.addr())) }
    fn cuStreamSynchronize(_stream: Handle) { with(|state| state.check()) }
    fn cuStreamWaitEvent(_stream: Handle, _event: Handle, _flags: c_uint) { with(|state| state.check()) }
    fn cuStreamBeginCapture_v2(stream: Handle, _mode: c_int) {
        with(|state| state.begin_capture(stream.addr()))
    }
    fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) {
        put(graph, handle(with(|state| state.end_capture(stream.addr()))?))
    }
    fn cuStreamIsCapturing(stream: Handle, status: *mut c_int) {
        put(status, with(|state| state.is_capturing(stream.addr()))?.into())
    }
    fn cuGraphInstantiateWithFlags(instance: *mut Handle, graph: Handle, _flags: u64) {
        put(instance, handle(with(|state| state.instantiate(graph.addr()))?))
    }
    fn cuGraphUpload(_graph: Handle, _stream: Handle) { Ok(()) }
    fn cuGraphLaunch(graph: Handle, stream: Handle) {
        with(|state| state.launch_graph(graph.addr(), stream.addr()))
    }
    fn cuGraphExecDestroy(graph: Handle) { with(|state| state.end_graph(graph.addr())) }
    fn cuGraphDestroy(graph: Handle) { with(|state| state.end_graph(graph.addr())) }
    fn cuEventCreate(event: *mut Handle, _flags: c_uint) { put(event, handle(1)) }
    fn cuEventDestroy_v2(_event: Handle) { Ok(()) }
    fn cuEventRecord(_event: Handle, _stream: Handle) { with(|state| state.check()) }
    fn cuEventSynchronize(_event: Handle) { with(|state| state.check()) }
    fn cuEventQuery(_event: Handle) { with(|state| state.check()) }
    fn cuGetErrorName(error: c_int, name: *mut *const c_char) {
        let found = Code::ALL.into_iter().find(|code| *code as c_int == error).ok_or(Code::InvalidValue)?;
        put(name, found.name().as_ptr())
    }
    fn cuGetErrorString(error: c_int, text: *mut *const c_char) {
        let found = Code::ALL.into_iter().find(|code| *code as c_int == error).ok_or(Code::InvalidValue)?;
        put(text, found.name().as_ptr())
    }
}
