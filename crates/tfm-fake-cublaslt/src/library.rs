//! The functions that programs look up in `libcublasLt.so`, with the library's names and
//! signatures.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::objects::{Answer, Description, Layout, Object, Objects, Preference, Status, refuse};
use crate::product::{Algorithm, Job, Memory, Problem, failed};

static OBJECTS: Mutex<Option<Objects>> = Mutex::new(None);

fn with<T>(f: impl FnOnce(&mut Objects) -> Answer<T>) -> Answer<T> {
    f(OBJECTS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Turns an answer into the library's status. A panic must not cross into the caller.
fn status(f: impl FnOnce() -> Answer) -> c_int {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status as c_int,
        Err(_) => Status::ExecutionFailed as c_int,
    }
}

type Handle = *mut c_void;

/// Writes a result to the caller's memory.
fn put<T>(at: *mut T, value: T) -> Answer {
    if at.is_null() {
        return refuse("there is no place for a result");
    }
    // SAFETY: callers of the library pass pointers to memory for the result.
    unsafe { at.write(value) };
    Ok(())
}

/// Reads a value from the caller's memory.
fn get<T: Copy>(at: *const c_void) -> Answer<T> {
    if at.is_null() {
        return refuse("an argument is missing");
    }
    // SAFETY: callers of the library pass pointers to values of the types that its functions name.
    Ok(unsafe { at.cast::<T>().read_unaligned() })
}

/// Memory of the caller.
fn bytes<'a>(at: *const c_void, size: usize) -> Answer<&'a [u8]> {
    if at.is_null() {
        return refuse("an attribute is missing");
    }
    // SAFETY: callers of the library pass memory of so many bytes.
    Ok(unsafe { std::slice::from_raw_parts(at.cast(), size) })
}

/// `DeviceMemory` of the fake driver.
#[repr(C)]
struct DeviceMemory {
    device: *mut c_void,
    read: extern "C" fn(*mut c_void, u64, *mut u8, usize) -> c_int,
    write: extern "C" fn(*mut c_void, u64, *const u8, usize) -> c_int,
}

impl Memory for &DeviceMemory {
    fn read(&self, at: u64, bytes: usize) -> Answer<Vec<u8>> {
        let mut data = vec![0; bytes];
        match (self.read)(self.device, at, data.as_mut_ptr(), bytes) {
            0 => Ok(data),
            _ => failed(),
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Answer {
        match (self.write)(self.device, at, bytes.as_ptr(), bytes.len()) {
            0 => Ok(()),
            _ => failed(),
        }
    }
}

type Work = extern "C" fn(*const u8, usize, *const DeviceMemory) -> c_int;
type Enqueue = unsafe extern "C" fn(Handle, Option<Work>, *const u8, usize) -> c_int;

/// The fake driver's `tfmFakeEnqueue`. The program has loaded that driver before.
fn enqueue() -> Answer<Enqueue> {
    static ENQUEUE: OnceLock<Option<Enqueue>> = OnceLock::new();
    let found = ENQUEUE.get_or_init(|| {
        // SAFETY: the library is loaded, and its function has this signature.
        unsafe {
            let driver = libloading::Library::new("libcuda.so").ok()?;
            let function = *driver.get::<Enqueue>(b"tfmFakeEnqueue").ok()?;
            std::mem::forget(driver);
            Some(function)
        }
    });
    found.map_or_else(|| refuse("the driver is not the fake one"), Ok)
}

/// Computes a product when its turn on the stream has come.
extern "C" fn run(job: *const u8, _: usize, memory: *const DeviceMemory) -> c_int {
    status(|| {
        let job: Job = get(job.cast())?;
        // SAFETY: the driver passes its memory, and waits until this returns.
        let memory = unsafe { memory.as_ref() }.map_or_else(failed, Ok)?;
        job.run(&memory)
    })
}

/// `cublasLtMatmulHeuristicResult_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct HeuristicResult {
    algorithm: Algorithm,
    workspace: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

/// Defines functions of the library.
macro_rules! library {
    ($(fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of cuBLASLt.")]
        ///
        /// # Safety
        /// Pointers must be as the library asks for them.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $ty),*) -> c_int {
            status(|| $body)
        }
    )*};
}

fn make(at: *mut Handle, object: Object) -> Answer {
    let number = with(|objects| Ok(objects.add(object)))?;
    put(at, std::ptr::without_provenance_mut(number))
}

fn destroy(object: Handle) -> Answer {
    with(|objects| objects.remove(object.addr()).map(|_| ()))
}

library! {
    fn cublasLtCreate(handle: *mut Handle) { make(handle, Object::Handle) }
    fn cublasLtDestroy(handle: Handle) {
        with(|objects| {
            let (products, lookups) = (objects.products, objects.lookups);
            eprintln!("fake cuBLASLt: {products} products by {lookups} lookups");
            Ok(())
        })?;
        destroy(handle)
    }
    fn cublasLtMatmulDescCreate(description: *mut Handle, compute: u32, scale: u32) {
        let new = Description { compute, scale, epilogue: 1, ..Description::default() };
        make(description, Object::Description(new))
    }
    fn cublasLtMatmulDescSetAttribute(description: Handle, attribute: u32, value: *const c_void, size: usize) {
        let value = bytes(value, size)?;
        with(|objects| objects.description(description.addr())?.set(attribute, value))
    }
    fn cublasLtMatmulDescDestroy(description: Handle) { destroy(description) }
    fn cublasLtMatrixLayoutCreate(layout: *mut Handle, kind: u32, rows: u64, columns: u64, leading: i64) {
        let new = Layout { kind, rows, columns, leading, batches: 1, batch_stride: 0 };
        make(layout, Object::Layout(new))
    }
    fn cublasLtMatrixLayoutSetAttribute(layout: Handle, attribute: u32, value: *const c_void, size: usize) {
        let value = bytes(value, size)?;
        with(|objects| objects.layout(layout.addr())?.set(attribute, value))
    }
    fn cublasLtMatrixLayoutDestroy(layout: Handle) { destroy(layout) }
    fn cublasLtMatmulPreferenceCreate(preference: *mut Handle) {
        // All reductions are allowed until the program says otherwise.
        make(preference, Object::Preference(Preference { workspace: 0, reductions: 7, alignments: [256; 4] }))
    }
    fn cublasLtMatmulPreferenceSetAttribute(preference: Handle, attribute: u32, value: *const c_void, size: usize) {
        let value = bytes(value, size)?;
        with(|objects| objects.preference(preference.addr())?.set(attribute, value))
    }
    fn cublasLtMatmulPreferenceDestroy(preference: Handle) { destroy(preference) }
    fn cublasLtMatmulAlgoGetHeuristic(
        handle: Handle,
        description: Handle,
        a: Handle,
        b: Handle,
        c: Handle,
        d: Handle,
        preference: Handle,
        wanted: c_int,
        results: *mut HeuristicResult,
        count: *mut c_int,
    ) {
        let algorithm = with(|objects| {
            objects.handle(handle.addr())?;
            objects.lookups += 1;
            let preference = *objects.preference(preference.addr())?;
            problem(objects, description, [a, b, c, d])?.algorithm(&preference)
        })?;
        if wanted < 1 {
            return refuse("no algorithm is wanted");
        }
        let workspace = algorithm.workspace as usize;
        put(results, HeuristicResult { algorithm, workspace, state: 0, waves: 1.0, reserved: [0; 4] })?;
        put(count, 1)
    }
    fn cublasLtMatmul(
        handle: Handle,
        description: Handle,
        alpha: *const c_void,
        a: *const c_void,
        a_layout: Handle,
        b: *const c_void,
        b_layout: Handle,
        beta: *const c_void,
        c: *const c_void,
        c_layout: Handle,
        d: *mut c_void,
        d_layout: Handle,
        algorithm: *const c_void,
        workspace: *mut c_void,
        workspace_bytes: usize,
        stream: Handle,
    ) {
        let problem = with(|objects| {
            objects.handle(handle.addr())?;
            objects.products += 1;
            problem(objects, description, [a_layout, b_layout, c_layout, d_layout])
        })?;
        let job = Job {
            problem,
            factors: [get(alpha)?, get(beta)?],
            at: [a.addr(), b.addr(), c.addr(), d.addr()].map(|at| at as u64),
            workspace: workspace.addr() as u64,
            workspace_bytes: workspace_bytes as u64,
        };
        job.check(&get(algorithm)?)?;
        // SAFETY: the driver copies exactly the bytes of `job`, from which `run` reads it again.
        match unsafe { enqueue()?(stream, Some(run), std::ptr::from_ref(&job).cast(), size_of::<Job>()) } {
            0 => Ok(()),
            _ => failed(),
        }
    }
}

fn problem(objects: &mut Objects, description: Handle, layouts: [Handle; 4]) -> Answer<Problem> {
    let description = *objects.description(description.addr())?;
    let [a, b, c, d] = layouts.map(|layout| objects.layout(layout.addr()).map(|layout| *layout));
    Ok(Problem { description, layouts: [a?, b?, c?, d?] })
}
