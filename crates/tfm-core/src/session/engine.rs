//! The session's inside, generic over the backend: compilation, folding, bindings.

use super::recordings::Recordings;
use super::run::{Memory, Trace, first_not_finite, run_steps};
use super::slots::Slots;
use super::statics::Statics;
use super::{AnyEngine, CompileOptions, DeviceTensor, NotFinite, ParameterSource, Program};
use crate::backend::{Signature, View};
use crate::fused::Fused;
use crate::op::PackFormat;
use crate::passes::{LoweringPolicy, fuse_linears, join_linears, lower};
use crate::plan::{Binding, Location, Reuse, Writes};
use crate::{Backend, DType, Error, Graph, HostSlice, Layout, Plan, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) struct Engine<B: Backend> {
    pub(super) backend: B,
    pub(super) shared: Arc<Shared<B>>,
    /// This worker's copy of the shared list, so that runs take no lock.
    pub(super) statics: Vec<Arc<B::Buffer>>,
    slots: Slots<B>,
    recordings: Recordings,
    trace: Option<Trace>,
}

/// What a session and its forks have in common.
pub(super) struct Shared<B: Backend> {
    pub(super) source: Arc<dyn ParameterSource>,
    /// What the programs compiled here have in common. Its address tells sessions apart.
    identity: Arc<()>,
    statics: Mutex<Statics<B>>,
}

impl<B: Backend> Engine<B> {
    pub(super) fn new(backend: B, source: Arc<dyn ParameterSource>) -> Self {
        let statics = Mutex::new(Statics::new());
        Engine {
            backend,
            shared: Arc::new(Shared { source, identity: Arc::new(()), statics }),
            statics: Vec::new(),
            slots: Slots::new(),
            recordings: Recordings::new(),
            trace: Trace::from_environment(),
        }
    }

    pub(super) fn lock(shared: &Shared<B>) -> MutexGuard<'_, Statics<B>> {
        // A worker that panics while it holds the lock at worst has not added its value.
        shared.statics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an engine a run reads while its slots are borrowed.
struct Running<'a, B: Backend> {
    backend: &'a B,
    recordings: &'a mut Recordings,
    /// The states' identities, in the order of the plan.
    states: Vec<u64>,
    trace: &'a Option<Trace>,
}

impl<B: Backend> Engine<B> {
    /// Binds inputs and states to a plan's memory, and calls `run` on it.
    fn with_memory(
        &mut self,
        plan: &Plan,
        program: &Program,
        inputs: &[(&str, HostSlice<'_>)],
        states: &mut [(&str, &mut DeviceTensor)],
        run: impl FnOnce(Running<'_, B>, &mut Memory<'_, B>) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        if !Arc::ptr_eq(&program.owner, &self.shared.identity) {
            return Err(Error::ForeignProgram);
        }
        if self.statics.len() < Self::lock(&self.shared).buffers.len() {
            let shared = Self::lock(&self.shared);
            self.statics.extend_from_slice(&shared.buffers[self.statics.len()..]);
        }
        if self.slots.prepare(&self.backend, plan)? {
            self.recordings.clear();
        }
        let (states, identities) = bind_states::<B>(plan, states)?;
        let mut memory = Memory { slots: &mut self.slots, statics: &self.statics, states };
        for binding in &plan.inputs {
            let data = bind_input(binding, inputs)?;
            let Location::Slot(dtype, slot) = binding.location else {
                unreachable!("inputs lie in slots")
            };
            self.backend.upload(data, memory.slot(dtype, slot))?;
        }
        let (backend, recordings, trace) = (&self.backend, &mut self.recordings, &self.trace);
        run(Running { backend, recordings, states: identities, trace }, &mut memory)
    }
}

impl<B: Backend> AnyEngine for Engine<B> {
    fn name(&self) -> String {
        self.backend.name()
    }

    fn fork(&self, threads: usize) -> Result<Box<dyn AnyEngine>> {
        Ok(Box::new(Engine {
            backend: self.backend.fork(threads)?,
            shared: self.shared.clone(),
            statics: self.statics.clone(),
            slots: Slots::new(),
            recordings: Recordings::new(),
            trace: Trace::from_environment(),
        }))
    }

    fn limit_threads(&self, threads: usize) {
        self.backend.limit_threads(threads);
    }

    fn compile(&mut self, graph: &Graph, options: &CompileOptions) -> Result<Program> {
        let reuse = if options.separate_slots { Reuse::Never } else { Reuse::Always };
        graph.check()?;
        let joined = fuse_linears(&join_linears(graph));
        joined.check()?;
        let policy = Policy { backend: &self.backend, decompose_all: options.decompose_all };
        let lowered = lower(&joined, &policy, &options.taps)?;
        let numbers = self.fold(&lowered)?;
        let outputs = lowered.graph.outputs().to_vec();
        let plan =
            Plan::new(&lowered, &outputs, Writes::Keep, reuse, |value| numbers[value.index()]);
        Ok(Program { plan: Arc::new(plan), owner: self.shared.identity.clone() })
    }

    fn allocate(&self, dtype: DType, shape: Shape) -> Result<DeviceTensor> {
        let buffer = Box::new(self.backend.allocate(dtype, shape.elements())?);
        Ok(DeviceTensor::new(dtype, shape, buffer))
    }

    fn enlarge(&self, tensor: &mut DeviceTensor, rows: usize) -> Result<bool> {
        if tensor.shape.first().is_none_or(|&first| rows < first) {
            return Ok(false);
        }
        let shape = Shape::from([&[rows], &tensor.shape[1..]].concat().as_slice());
        let buffer = tensor.buffer.downcast_mut::<B::Buffer>().ok_or(Error::ForeignTensor)?;
        let done = self.backend.enlarge(buffer, shape.elements())?;
        if done {
            tensor.enlarged(shape);
        }
        Ok(done)
    }

    fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor> {
        let mut buffer = self.backend.allocate(tensor.dtype(), tensor.shape().elements())?;
        self.backend.upload(tensor.as_slice(), &mut buffer)?;
        let (dtype, shape) = (tensor.dtype(), tensor.shape().clone());
        Ok(DeviceTensor::new(dtype, shape, Box::new(buffer)))
    }

    fn download(&self, tensor: &DeviceTensor) -> Result<Tensor> {
        let buffer = tensor.buffer.downcast_ref::<B::Buffer>().ok_or(Error::ForeignTensor)?;
        let layout = Layout::contiguous(&tensor.shape);
        Ok(self.backend.download(View { buffer, dtype: tensor.dtype, layout: &layout })?)
    }

    fn first_not_finite(
        &mut self,
        program: &Program,
        inputs: &[(&str, HostSlice<'_>)],
        states: &mut [(&str, &mut DeviceTensor)],
    ) -> Result<Option<NotFinite>> {
        let plan = program.plan.clone();
        let mut found = None;
        self.with_memory(&plan, program, inputs, states, |engine, memory| {
            found = first_not_finite(engine.backend, &plan, memory)?;
            Ok(Vec::new())
        })?;
        Ok(found)
    }

    fn run(
        &mut self,
        program: &Program,
        inputs: &[(&str, HostSlice<'_>)],
        states: &mut [(&str, &mut DeviceTensor)],
    ) -> Result<Vec<Tensor>> {
        let plan = program.plan.clone();
        self.with_memory(&plan, program, inputs, states, |engine, memory| {
            let Running { backend, recordings, states, trace } = engine;
            match trace {
                Some(trace) => run_steps(backend, &plan, memory, Some(trace))?,
                None => recordings.run(backend, program, states, &mut || {
                    run_steps(backend, &plan, memory, None)
                })?,
            }
            let download = |region| Ok(backend.download(memory.view(region))?);
            plan.outputs.iter().map(download).collect()
        })
    }
}

fn bind_input<'a>(binding: &Binding, inputs: &[(&str, HostSlice<'a>)]) -> Result<HostSlice<'a>> {
    let name = || binding.name.to_string();
    let found = inputs.iter().find(|(input, _)| *input == &*binding.name);
    let (_, data) = found.ok_or_else(|| Error::Unbound { kind: "input", name: name() })?;
    if data.dtype() != binding.dtype || data.len() != binding.shape.elements() {
        return Err(Error::Mismatch {
            kind: "input",
            name: name(),
            expected: binding.shape.clone(),
            expected_dtype: binding.dtype,
            found: [data.len()].into(),
            found_dtype: data.dtype(),
        });
    }
    if let (Some(bound), HostSlice::I32(indices)) = (binding.bound, data) {
        let outside = |&index: &i32| usize::try_from(index).is_ok_and(|index| index < bound);
        if let Some(position) = indices.iter().position(|index| !outside(index)) {
            return Err(Error::IndexOutOfRange {
                name: name(),
                index: indices[position],
                position,
                bound,
            });
        }
    }
    Ok(*data)
}

/// The memory of a plan's states, and their identities.
type Bound<'a, B> = (Vec<Option<&'a mut <B as Backend>::Buffer>>, Vec<u64>);

fn bind_states<'a, B: Backend>(
    plan: &Plan,
    states: &'a mut [(&str, &mut DeviceTensor)],
) -> Result<Bound<'a, B>> {
    let mut identities = vec![0; plan.states.len()];
    let mut bound: Vec<Option<&'a mut B::Buffer>> = Vec::new();
    bound.resize_with(plan.states.len(), || None);
    for (name, tensor) in states.iter_mut() {
        let Some(index) = plan.states.iter().position(|binding| *binding.name == **name) else {
            continue;
        };
        let binding = &plan.states[index];
        let (found, found_dtype) = (tensor.shape.clone(), tensor.dtype);
        let buffer = tensor.buffer.downcast_mut::<B::Buffer>();
        if found != binding.shape || found_dtype != binding.dtype || buffer.is_none() {
            return Err(Error::Mismatch {
                kind: "state",
                name: binding.name.to_string(),
                expected: binding.shape.clone(),
                expected_dtype: binding.dtype,
                found,
                found_dtype,
            });
        }
        bound[index] = buffer;
        identities[index] = tensor.identity;
    }
    match bound.iter().position(Option::is_none) {
        Some(index) => {
            Err(Error::Unbound { kind: "state", name: plan.states[index].name.to_string() })
        }
        None => Ok((bound, identities)),
    }
}

struct Policy<'a, B> {
    backend: &'a B,
    decompose_all: bool,
}

impl<B: Backend> LoweringPolicy for Policy<'_, B> {
    fn supports(&self, op: &Fused, signature: &Signature<'_>) -> bool {
        !self.decompose_all && self.backend.supports(op, signature)
    }
    fn pack_format(
        &self,
        op: &Fused,
        operand: usize,
        signature: &Signature<'_>,
    ) -> Option<PackFormat> {
        self.backend.pack_format(op, operand, signature)
    }
}
