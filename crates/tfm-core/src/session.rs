//! The session: parameters in device memory, compiled programs, runs. Generic inside, one type
//! outside.

mod engine;
mod folding;
mod recordings;
mod run;
mod slots;
mod statics;

use crate::{Backend, DType, Graph, HostSlice, Plan, Result, RowSource, Shape, Tensor};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a session's parameters come from. The session reads each when it first needs it, and again
/// only if it has kept nothing but a folded value (such as a packed weight).
pub trait ParameterSource: Send + Sync {
    /// The tensor of that name, in the element type and shape that graphs declare for it.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn load(&self, name: &str) -> Result<Tensor, String>;

    /// The rows of the same tensor, if it is an `F32` matrix and the source can read its rows one
    /// by one. The session reads weights in this way that it only packs.
    ///
    /// # Errors
    /// As [`ParameterSource::load`].
    fn rows<'a>(&'a self, name: &str) -> Result<Option<Box<dyn RowSource + 'a>>, String> {
        let _ = name;
        Ok(None)
    }
}

/// A source without parameters.
#[derive(Debug, Clone, Copy)]
pub struct NoParameters;

impl ParameterSource for NoParameters {
    fn load(&self, _: &str) -> Result<Tensor, String> {
        Err("this session has no parameters".into())
    }
}

/// Device memory that belongs to the caller and is passed to runs as a state.
pub struct DeviceTensor {
    dtype: DType,
    shape: Shape,
    buffer: Box<dyn Any + Send>,
    /// Tells it from every other, so that recorded work is never repeated on the memory of another.
    identity: u64,
}

/// A number that no tensor has.
fn new_identity() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    MADE.fetch_add(1, Ordering::Relaxed)
}

impl DeviceTensor {
    /// Notes that the memory has more rows now, perhaps at another address.
    fn enlarged(&mut self, shape: Shape) {
        (self.shape, self.identity) = (shape, new_identity());
    }

    fn new(dtype: DType, shape: Shape, buffer: Box<dyn Any + Send>) -> Self {
        DeviceTensor { dtype, shape, buffer, identity: new_identity() }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// The step of a run that first made a number that is not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFinite {
    /// The op's name.
    pub op: String,
    /// The node's scope, such as `decoder.layers.3.cross_attention`.
    pub scope: String,
    /// The shape of its result.
    pub shape: Shape,
    /// How many of the result's elements are NaN or infinite.
    pub elements: usize,
}

/// How a graph is compiled.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// Values to return after the graph's outputs, by label; see [`Graph::label`].
    pub taps: Vec<String>,
    /// Decompose every fused op, also those that the backend supports.
    pub decompose_all: bool,
    /// Give every value its own slot. The results are the same; this finds faults of the plan.
    pub separate_slots: bool,
}

/// A compiled graph. It can be run by the session that compiled it and by that session's forks.
#[derive(Debug, Clone)]
pub struct Program {
    plan: Arc<Plan>,
    /// The statics that the plan reads, which must be the session's own, by address.
    owner: Arc<()>,
}

impl Program {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// One worker on one device: it compiles graphs and runs the programs, one at a time.
pub struct Session {
    engine: Box<dyn AnyEngine>,
}

impl Session {
    /// A session on `backend` with the parameters of `source`.
    pub fn new<B: Backend>(backend: B, source: Arc<dyn ParameterSource>) -> Self {
        Session { engine: Box::new(engine::Engine::new(backend, source)) }
    }

    /// The backend's name.
    pub fn name(&self) -> String {
        self.engine.name()
    }

    /// Another worker on the same device with the same parameters in memory, which may run at the
    /// same time as this one, with `threads` threads of its own.
    ///
    /// # Errors
    /// The backend's.
    pub fn fork(&self, threads: usize) -> Result<Session> {
        Ok(Session { engine: self.engine.fork(threads)? })
    }

    /// Divides work among that many threads from now on, if the device has threads. Results do not
    /// depend on the number.
    pub fn limit_threads(&self, threads: usize) {
        self.engine.limit_threads(threads);
    }

    /// Compiles a graph: joins, lowers, folds what depends on parameters alone, and plans.
    ///
    /// # Errors
    /// The graph's first fault; a parameter that is missing or does not fit; an unknown tap; the
    /// backend's.
    pub fn compile(&mut self, graph: &Graph, options: &CompileOptions) -> Result<Program> {
        self.engine.compile(graph, options)
    }

    /// Device memory for a state; its content is undefined.
    ///
    /// # Errors
    /// The backend's.
    pub fn allocate(&self, dtype: DType, shape: impl Into<Shape>) -> Result<DeviceTensor> {
        self.engine.allocate(dtype, shape.into())
    }

    /// Gives a state more rows, if that is possible without a copy; the content of the new rows is
    /// undefined. Otherwise returns false and changes nothing.
    ///
    /// # Errors
    /// The tensor is of another backend; the backend's.
    pub fn enlarge(&self, tensor: &mut DeviceTensor, rows: usize) -> Result<bool> {
        self.engine.enlarge(tensor, rows)
    }

    /// Device memory with a tensor's content.
    ///
    /// # Errors
    /// The backend's.
    pub fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor> {
        self.engine.upload(tensor)
    }

    /// The content of device memory.
    ///
    /// # Errors
    /// The tensor is of another backend; the backend's.
    pub fn download(&self, tensor: &DeviceTensor) -> Result<Tensor> {
        self.engine.download(tensor)
    }

    /// Runs a program as [`Session::run`] does, until a step computes a number that is NaN or
    /// infinite. Returns that step, or `None` if all numbers are finite. Writes nothing to the
    /// states. Slow: it downloads each result.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn first_not_finite(
        &mut self,
        program: &Program,
        inputs: &[(&str, HostSlice<'_>)],
        states: &mut [(&str, &mut DeviceTensor)],
    ) -> Result<Option<NotFinite>> {
        self.engine.first_not_finite(program, inputs, states)
    }

    /// Runs a program: its outputs, then its taps.
    ///
    /// # Errors
    /// An input or a state that is missing, of another shape or type, or out of its bound; a
    /// program of another session; the backend's.
    pub fn run(
        &mut self,
        program: &Program,
        inputs: &[(&str, HostSlice<'_>)],
        states: &mut [(&str, &mut DeviceTensor)],
    ) -> Result<Vec<Tensor>> {
        self.engine.run(program, inputs, states)
    }
}

/// [`engine::Engine`] without its type.
trait AnyEngine: Send {
    fn name(&self) -> String;
    fn fork(&self, threads: usize) -> Result<Box<dyn AnyEngine>>;
    fn limit_threads(&self, threads: usize);
    fn compile(&mut self, graph: &Graph, options: &CompileOptions) -> Result<Program>;
    fn allocate(&self, dtype: DType, shape: Shape) -> Result<DeviceTensor>;
    fn enlarge(&self, tensor: &mut DeviceTensor, rows: usize) -> Result<bool>;
    fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor>;
    fn download(&self, tensor: &DeviceTensor) -> Result<Tensor>;
    fn first_not_finite(
        &mut self,
        program: &Program,
        inputs: &[(&str, HostSlice<'_>)],
        states: &mut [(&str, &mut DeviceTensor)],
    ) -> Result<Option<NotFinite>>;
    fn run(
        &mut self,
        program: &Program,
        inputs: &[(&str, HostSlice<'_>)],
        states: &mut [(&str, &mut DeviceTensor)],
    ) -> Result<Vec<Tensor>>;
}
