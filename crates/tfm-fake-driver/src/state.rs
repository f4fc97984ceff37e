//! The driver's state: memory, modules, streams, graphs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::driver::ForeignWork;
use tfm_ptx_emu::{Device, Launch, Module};

/// Error codes of the driver (`CUresult`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidValue = 1,
    OutOfMemory = 2,
    NotInitialized = 3,
    InvalidDevice = 101,
    InvalidPtx = 218,
    InvalidHandle = 400,
    NotFound = 500,
    IllegalAddress = 700,
    LaunchFailed = 719,
    StreamCaptureUnsupported = 900,
}

impl Code {
    pub(crate) const ALL: [Code; 10] = [
        Code::InvalidValue,
        Code::OutOfMemory,
        Code::NotInitialized,
        Code::InvalidDevice,
        Code::InvalidPtx,
        Code::InvalidHandle,
        Code::NotFound,
        Code::IllegalAddress,
        Code::LaunchFailed,
        Code::StreamCaptureUnsupported,
    ];

    /// The driver's name of the code.
    pub(crate) fn name(self) -> &'static std::ffi::CStr {
        match self {
            Code::InvalidValue => c"CUDA_ERROR_INVALID_VALUE",
            Code::OutOfMemory => c"CUDA_ERROR_OUT_OF_MEMORY",
            Code::NotInitialized => c"CUDA_ERROR_NOT_INITIALIZED",
            Code::InvalidDevice => c"CUDA_ERROR_INVALID_DEVICE",
            Code::InvalidPtx => c"CUDA_ERROR_INVALID_PTX",
            Code::InvalidHandle => c"CUDA_ERROR_INVALID_HANDLE",
            Code::NotFound => c"CUDA_ERROR_NOT_FOUND",
            Code::IllegalAddress => c"CUDA_ERROR_ILLEGAL_ADDRESS",
            Code::LaunchFailed => c"CUDA_ERROR_LAUNCH_FAILED",
            Code::StreamCaptureUnsupported => c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        }
    }
}

pub(crate) type Answer<T = ()> = Result<T, Code>;

/// A piece of work on a stream.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Launch {
        function: usize,
        blocks: [u32; 3],
        threads: [u32; 3],
        shared: usize,
        arguments: Vec<Vec<u8>>,
    },
    /// A copy from the host's memory at this address.
    Upload {
        to: u64,
        from: usize,
        bytes: usize,
    },
    Download {
        to: usize,
        from: u64,
        bytes: usize,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
    },
    Fill {
        at: u64,
        value: u8,
        bytes: usize,
    },
    /// Another library's work, done by a function of that library.
    Foreign {
        run: ForeignWork,
        data: Vec<u8>,
    },
}

struct Function {
    module: usize,
    name: String,
}

/// All of the driver's state. Handles are positions in the lists, plus one.
pub(crate) struct State {
    device: Device,
    modules: Vec<Option<Arc<Module>>>,
    functions: Vec<Function>,
    /// The streams that programs made. A stream that is captured has the work recorded so far.
    streams: BTreeMap<usize, Option<Vec<Work>>>,
    made: usize,
    graphs: BTreeMap<usize, Vec<Work>>,
    allocations: BTreeMap<u64, usize>,
    memory: usize,
    failed: Option<Code>,
    launch: Launch,
}

/// The bytes of the device's memory, unless the environment says otherwise.
const MEMORY: usize = 1 << 30;

/// The default streams have the handles 0, 1 (the process's) and 2 (each thread's).
const LAST_DEFAULT_STREAM: usize = 2;

impl State {
    pub(crate) fn new() -> State {
        let number =
            |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        State {
            device: Device::new(),
            modules: Vec::new(),
            functions: Vec::new(),
            streams: BTreeMap::new(),
            made: LAST_DEFAULT_STREAM,
            graphs: BTreeMap::new(),
            allocations: BTreeMap::new(),
            memory: number("TFM_FAKE_MEMORY").map_or(MEMORY, |bytes| bytes as usize),
            failed: None,
            launch: Launch {
                seed: number("TFM_FAKE_SEED").unwrap_or(0),
                lazy: number("TFM_FAKE_LAZY") == Some(1),
                ..Launch::default()
            },
        }
    }

    /// The first error of a launch, if there was one: every call after it fails.
    pub(crate) fn check(&self) -> Answer {
        self.failed.map_or(Ok(()), Err)
    }

    /// The free bytes, and all bytes.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let used: usize = self.allocations.values().sum();
        (self.memory.saturating_sub(used), self.memory)
    }

    pub(crate) fn allocate(&mut self, bytes: usize) -> Answer<u64> {
        if bytes == 0 {
            return Err(Code::InvalidValue);
        }
        if bytes > self.memory().0 {
            return Err(Code::OutOfMemory);
        }
        let pointer = self.device.allocate(bytes);
        self.allocations.insert(pointer, bytes);
        Ok(pointer)
    }

    pub(crate) fn free(&mut self, pointer: u64) -> Answer {
        if pointer == 0 {
            return Ok(());
        }
        self.allocations.remove(&pointer).ok_or(Code::InvalidValue)?;
        self.device.free(pointer).map_err(|_| Code::InvalidValue)
    }

    pub(crate) fn load(&mut self, ptx: &str) -> Answer<usize> {
        let module = Module::parse(ptx).map_err(|error| {
            eprintln!("fake CUDA driver: PTX {error}");
            Code::InvalidPtx
        })?;
        self.modules.push(Some(Arc::new(module)));
        Ok(self.modules.len())
    }

    pub(crate) fn unload(&mut self, module: usize) -> Answer {
        *self.modules.get_mut(module.wrapping_sub(1)).ok_or(Code::InvalidHandle)? = None;
        Ok(())
    }

    pub(crate) fn function(&mut self, module: usize, name: &str) -> Answer<usize> {
        let module = module.wrapping_sub(1);
        let found = self.modules.get(module).and_then(Option::as_ref).ok_or(Code::InvalidHandle)?;
        found.kernel(name).ok_or(Code::NotFound)?;
        self.functions.push(Function { module, name: name.into() });
        Ok(self.functions.len())
    }

    /// The sizes of a function's parameters.
    pub(crate) fn parameters(&self, function: usize) -> Answer<Vec<usize>> {
        let (module, name) = self.kernel(function)?;
        let kernel = module.kernel(name).ok_or(Code::InvalidHandle)?;
        Ok(kernel.parameters.iter().map(|(_, size)| *size).collect())
    }

    fn kernel(&self, function: usize) -> Answer<(&Arc<Module>, &str)> {
        let function = self.functions.get(function.wrapping_sub(1)).ok_or(Code::InvalidHandle)?;
        let module = self.modules[function.module].as_ref().ok_or(Code::InvalidHandle)?;
        Ok((module, &function.name))
    }

    pub(crate) fn make_stream(&mut self) -> usize {
        self.made += 1;
        self.streams.insert(self.made, None);
        self.made
    }

    pub(crate) fn end_stream(&mut self, stream: usize) -> Answer {
        self.streams.remove(&stream).map(|_| ()).ok_or(Code::InvalidHandle)
    }

    /// The work that a stream has recorded, if it is captured. The default streams cannot be.
    fn recorded(&mut self, stream: usize) -> Answer<Option<&mut Vec<Work>>> {
        match stream {
            0..=LAST_DEFAULT_STREAM => Ok(None),
            _ => Ok(self.streams.get_mut(&stream).ok_or(Code::InvalidHandle)?.as_mut()),
        }
    }

    pub(crate) fn is_capturing(&mut self, stream: usize) -> Answer<bool> {
        Ok(self.recorded(stream)?.is_some())
    }

    pub(crate) fn begin_capture(&mut self, stream: usize) -> Answer {
        match self.streams.get_mut(&stream) {
            None => Err(Code::StreamCaptureUnsupported),
            Some(Some(_)) => Err(Code::InvalidValue),
            Some(recorded) => {
                *recorded = Some(Vec::new());
                Ok(())
            }
        }
    }

    pub(crate) fn end_capture(&mut self, stream: usize) -> Answer<usize> {
        let recorded = self.streams.get_mut(&stream).ok_or(Code::InvalidHandle)?.take();
        Ok(self.add_graph(recorded.ok_or(Code::InvalidValue)?))
    }

    fn add_graph(&mut self, work: Vec<Work>) -> usize {
        self.made += 1;
        self.graphs.insert(self.made, work);
        self.made
    }

    pub(crate) fn instantiate(&mut self, graph: usize) -> Answer<usize> {
        let work = self.graphs.get(&graph).ok_or(Code::InvalidHandle)?.clone();
        Ok(self.add_graph(work))
    }

    pub(crate) fn end_graph(&mut self, graph: usize) -> Answer {
        self.graphs.remove(&graph).map(|_| ()).ok_or(Code::InvalidHandle)
    }

    pub(crate) fn launch_graph(&mut self, graph: usize, stream: usize) -> Answer {
        let work = self.graphs.get(&graph).ok_or(Code::InvalidHandle)?.clone();
        work.into_iter().try_for_each(|work| self.submit(stream, work))
    }

    /// Does work now, or records it if the stream is captured.
    pub(crate) fn submit(&mut self, stream: usize, work: Work) -> Answer {
        self.check()?;
        if let Some(recorded) = self.recorded(stream)? {
            recorded.push(work);
            return Ok(());
        }
        let result = self.perform(&work);
        if let Err(code @ (Code::LaunchFailed | Code::IllegalAddress)) = result {
            self.failed = Some(code);
        }
        result
    }

    fn perform(&mut self, work: &Work) -> Answer {
        let wrong = |problem| {
            eprintln!("fake CUDA driver: {problem}");
            Code::IllegalAddress
        };
        match *work {
            Work::Launch { function, blocks, threads, shared, ref arguments } => {
                let (module, name) = self.kernel(function)?;
                let (module, name) = (module.clone(), name.to_owned());
                let launch = Launch { blocks, threads, shared, ..self.launch };
                let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
                let result = self.device.launch(&module, &name, &launch, &arguments);
                result.map(|_| ()).map_err(|fault| {
                    eprintln!("fake CUDA driver: {fault}");
                    Code::LaunchFailed
                })
            }
            Work::Upload { to, from, bytes } => {
                let source = crate::driver::host(from, bytes)?;
                self.device.write(to, source).map_err(wrong)
            }
            Work::Download { to, from, bytes } => {
                let data = self.device.download(from, bytes).map_err(wrong)?;
                crate::driver::host_mut(to, bytes)?.copy_from_slice(&data);
                Ok(())
            }
            Work::Copy { to, from, bytes } => self.device.copy(to, from, bytes).map_err(wrong),
            Work::Fill { at, value, bytes } => {
                self.device.write(at, &vec![value; bytes]).map_err(wrong)
            }
            Work::Foreign { run, ref data } => {
                crate::driver::run_foreign(run, data, &mut self.device)
            }
        }
    }
}
