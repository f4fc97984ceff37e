//! Runs the steps of a plan: finds each operand's memory and calls the backend.

use super::NotFinite;
use super::slots::Slots;
use crate::backend::{Outcome, View, ViewMut};
use crate::op::Op;
use crate::plan::{Location, Region, Step};
use crate::{Backend, DType, Plan, Result};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// All memory that a run touches.
pub(super) struct Memory<'a, B: Backend> {
    pub(super) slots: &'a mut Slots<B>,
    pub(super) statics: &'a [Arc<B::Buffer>],
    pub(super) states: Vec<Option<&'a mut B::Buffer>>,
}

/// A destination taken out of the memory while its step runs.
enum Taken<'a, B: Backend> {
    Slot(usize, B::Buffer),
    State(&'a mut B::Buffer),
}

const PRESENT: &str = "a step's sources and destinations are apart, and each exists";

impl<'a, B: Backend> Memory<'a, B> {
    pub(super) fn slot(&mut self, dtype: DType, slot: usize) -> &mut B::Buffer {
        &mut self.slots.entry(dtype, slot).as_mut().expect(PRESENT).1
    }

    pub(super) fn view<'v>(&'v self, region: &'v Region) -> View<'v, B::Buffer> {
        let buffer = match region.location {
            Location::Static(number) => &*self.statics[number],
            Location::State(number) => self.states[number].as_deref().expect(PRESENT),
            Location::Slot(dtype, slot) => self.slots.get(dtype, slot).expect(PRESENT),
        };
        View { buffer, dtype: region.dtype, layout: &region.layout }
    }

    fn take(&mut self, region: &Region) -> Taken<'a, B> {
        match region.location {
            Location::Slot(dtype, slot) => {
                let (capacity, buffer) = self.slots.entry(dtype, slot).take().expect(PRESENT);
                Taken::Slot(capacity, buffer)
            }
            Location::State(number) => Taken::State(self.states[number].take().expect(PRESENT)),
            Location::Static(_) => unreachable!("no step writes to a static"),
        }
    }

    fn put_back(&mut self, region: &Region, taken: Taken<'a, B>) {
        match (region.location, taken) {
            (Location::Slot(dtype, slot), Taken::Slot(capacity, buffer)) => {
                *self.slots.entry(dtype, slot) = Some((capacity, buffer));
            }
            (Location::State(number), Taken::State(buffer)) => self.states[number] = Some(buffer),
            _ => unreachable!("`take` matches the location"),
        }
    }

    /// The buffer of an output, which lies contiguous at the start of its slot.
    pub(super) fn take_output(mut self, plan: &Plan, output: usize) -> Result<B::Buffer> {
        match self.take(&plan.outputs[output]) {
            Taken::Slot(_, buffer) => Ok(buffer),
            Taken::State(_) => unreachable!("folding has no states"),
        }
    }
}

/// Runs all steps in order.
pub(super) fn run_steps<'a, B: Backend>(
    backend: &B,
    plan: &Plan,
    memory: &mut Memory<'a, B>,
    trace: Option<&Trace>,
) -> Outcome {
    for step in &plan.steps {
        let started = trace.map(|_| Instant::now());
        run_on(backend, step, memory)?;
        if let (Some(trace), Some(started)) = (trace, started) {
            let elapsed = started.elapsed();
            trace.report(backend, step, memory, elapsed)?;
        }
    }
    Ok(())
}

/// Runs the steps until one makes a number that is not finite.
pub(super) fn first_not_finite<B: Backend>(
    backend: &B,
    plan: &Plan,
    memory: &mut Memory<'_, B>,
) -> Result<Option<NotFinite>> {
    for step in &plan.steps {
        // A state may hold content that nobody has written.
        if !step.outputs.iter().any(|region| matches!(region.location, Location::State(_))) {
            run_on(backend, step, memory)?;
            for region in &step.outputs {
                let values = backend.download(memory.view(region))?.to_f64();
                let elements = values.iter().filter(|value| !value.is_finite()).count();
                if elements > 0 {
                    let (op, scope) = (step.op.name(), step.scope.to_string());
                    let shape = region.layout.shape().clone();
                    return Ok(Some(NotFinite { op, scope, shape, elements }));
                }
            }
        }
    }
    Ok(None)
}

/// Runs one step on the memory that the plan gives it.
fn run_on<B: Backend>(backend: &B, step: &Step, memory: &mut Memory<'_, B>) -> Outcome {
    let mut taken: SmallVec<[Taken<'_, B>; 2]> =
        step.outputs.iter().map(|region| memory.take(region)).collect();
    let outcome = run_step(backend, step, memory, &mut taken);
    for (region, taken) in step.outputs.iter().zip(taken) {
        memory.put_back(region, taken);
    }
    outcome
}

fn run_step<'a, B: Backend>(
    backend: &B,
    step: &Step,
    memory: &Memory<'a, B>,
    taken: &mut [Taken<'a, B>],
) -> Outcome {
    // Operands that are computed in place are destinations, which have been taken out of the
    // memory.
    let read = step.inputs.iter().skip(step.op.in_place());
    let inputs: SmallVec<[View<'_, B::Buffer>; 5]> =
        read.map(|region| memory.view(region)).collect();
    let mut outputs: SmallVec<[ViewMut<'_, B::Buffer>; 2]> = taken
        .iter_mut()
        .zip(&step.outputs)
        .map(|(taken, region)| ViewMut {
            buffer: match taken {
                Taken::Slot(_, buffer) => buffer,
                Taken::State(buffer) => buffer,
            },
            dtype: region.dtype,
            layout: &region.layout,
        })
        .collect();
    if let Op::Fused(op) = &step.op {
        return backend.fused(op, &inputs, &mut outputs);
    }
    if let Op::TopK { k } = &step.op {
        let indices = outputs.pop().expect(PRESENT);
        return backend.top_k(*k, inputs[0], outputs.pop().expect(PRESENT), indices);
    }
    let dst = outputs.pop().expect(PRESENT);
    match &step.op {
        Op::Constant(number) => backend.fill(number.0, dst),
        Op::Iota => backend.iota(dst),
        Op::Unary(op) => backend.unary(*op, inputs[0], dst),
        Op::Binary(op) => backend.binary(*op, inputs[0], inputs[1], dst),
        Op::Select => backend.select(inputs[0], inputs[1], inputs[2], dst),
        Op::Cast(_) | Op::Contiguous => backend.copy(inputs[0], dst),
        Op::Random { stream, .. } => backend.random(*stream, inputs[0], dst),
        Op::Reduce { op, axis } => backend.reduce(*op, *axis, inputs[0], dst),
        Op::MatMul => backend.matmul(inputs[0], inputs[1], dst),
        Op::Gather => backend.gather(inputs[0], inputs[1], dst),
        Op::ScatterAdd { .. } => backend.scatter_add(inputs[0], inputs[1], dst),
        Op::WriteRows => backend.write_rows(inputs[0], inputs[1], dst),
        Op::Concat { axis } => {
            let mut start = 0;
            for input in &inputs {
                let length = input.layout.shape()[*axis];
                let part = dst.layout.slice(*axis, start, length);
                backend.copy(
                    *input,
                    ViewMut { buffer: &mut *dst.buffer, dtype: dst.dtype, layout: &part },
                )?;
                start += length;
            }
            Ok(())
        }
        Op::Pack(format) => {
            *dst.buffer = backend.pack(*format, inputs[0])?;
            Ok(())
        }
        Op::Input { .. } | Op::Parameter { .. } | Op::State { .. } => {
            unreachable!("sources have no step")
        }
        Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(_) | Op::Slice { .. } => {
            unreachable!("views have no step")
        }
        Op::TopK { .. } | Op::Fused(_) => unreachable!("handled above"),
    }
}

/// `TFM_TRACE=1`: prints each step's time, and the range and the NaN count of its results, to
/// stderr.
pub(super) struct Trace;

impl Trace {
    pub(super) fn from_environment() -> Option<Trace> {
        std::env::var_os("TFM_TRACE")
            .is_some_and(|value| value != "0" && !value.is_empty())
            .then_some(Trace)
    }

    fn report<B: Backend>(
        &self,
        backend: &B,
        step: &Step,
        memory: &Memory<'_, B>,
        elapsed: std::time::Duration,
    ) -> Outcome {
        if matches!(step.op, Op::Pack(_) | Op::WriteRows) {
            // A backend's own storage, or a state that may hold what was never written.
            return Ok(());
        }
        for (number, region) in step.outputs.iter().enumerate() {
            // The time of a step with several results stands beside the first, so that a sum is
            // right.
            let elapsed = if number == 0 { elapsed } else { std::time::Duration::ZERO };
            let values = backend.download(memory.view(region))?.to_f64();
            let nans = values.iter().filter(|value| value.is_nan()).count();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            eprintln!(
                "{:>10.1} µs  {:<24} {:<40} {} {}  [{low:.4e}, {high:.4e}]{}",
                elapsed.as_secs_f64() * 1e6,
                step.op.name(),
                step.scope,
                region.dtype,
                region.layout.shape(),
                if nans > 0 { format!("  {nans} NaN") } else { String::new() },
            );
        }
        Ok(())
    }
}
