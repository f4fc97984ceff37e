//! What depends on parameters alone: loaded, computed and packed once for a session and its forks.

use super::engine::Engine;
use super::run::{Memory, run_steps};
use super::slots::Slots;
use crate::graph::Value;
use crate::op::Op;
use crate::passes::Lowered;
use crate::plan::{Location, Reuse, Writes, owners};
use crate::rows::Stacked;
use crate::{Backend, DType, Error, Plan, Result, Shape};
use std::sync::Arc;

impl<B: Backend> Engine<B> {
    fn load_parameter(&self, name: &str, dtype: DType, shape: &Shape) -> Result<B::Buffer> {
        let loaded = self.shared.source.load(name);
        let tensor = loaded.map_err(|problem| unavailable(name, problem))?;
        if tensor.dtype() != dtype || tensor.shape() != shape {
            let found = (tensor.shape().clone(), tensor.dtype());
            return Err(mismatch(name, (shape.clone(), dtype), found));
        }
        Ok(self.backend.adopt(tensor)?)
    }

    /// For each value the number of its memory, if a run reads it and it is static: parameters are
    /// loaded, the others computed, both once for the session and all its forks.
    pub(super) fn fold(&mut self, lowered: &Lowered) -> Result<Vec<Option<usize>>> {
        let graph = &lowered.graph;
        let owners = owners(lowered);
        let is_root = |value: &&Value| lowered.statics[value.index()];
        let read = graph
            .nodes
            .iter()
            .filter(|node| !lowered.statics[node.outputs[0].index()])
            .flat_map(|node| &node.inputs)
            .chain(graph.outputs())
            .filter(is_root);

        let shared = self.shared.clone();
        let mut statics = Self::lock(&shared);
        let identities = statics.identities(lowered);
        let mut numbers = vec![None; graph.values.len()];
        let mut computed = false;
        for value in read {
            let root = owners[value.index()];
            if numbers[root.index()].is_some() {
                continue;
            }
            let identity = identities[root.index()].expect("static values have one");
            let number = match statics.number(identity) {
                Some(number) => number,
                None => {
                    let buffer = self.compute_static(lowered, root, |value| {
                        let number = statics.number(identities[value.index()]?)?;
                        Some(statics.buffers[number].clone())
                    })?;
                    computed = true;
                    statics.insert(identity, buffer)
                }
            };
            numbers[root.index()] = Some(number);
        }
        if computed {
            self.backend.settle()?;
        }
        self.statics.extend_from_slice(&statics.buffers[self.statics.len()..]);
        Ok(numbers)
    }

    /// Computes a static value, from parameters that are in memory as `known` says, or else are
    /// loaded.
    fn compute_static(
        &self,
        lowered: &Lowered,
        root: Value,
        known: impl Fn(Value) -> Option<Arc<B::Buffer>>,
    ) -> Result<B::Buffer> {
        let graph = &lowered.graph;
        if let Op::Parameter { name } = &graph.node_of(root).op {
            return self.load_parameter(name, graph.dtype(root), graph.shape(root));
        }
        if let Op::Pack(format) = graph.node_of(root).op
            && let Some(rows) = self.rows(lowered, graph.node_of(root).inputs[0], &known)?
        {
            return Ok(self.backend.pack_rows(format, &rows)?);
        }
        // A plan of its own, whose statics are the parameters it reads, freed when it is done.
        let mut parameters = Vec::new();
        let plan = Plan::new(lowered, &[root], Writes::Drop, Reuse::Always, |value| {
            let is_parameter = matches!(graph.node_of(value).op, Op::Parameter { .. });
            is_parameter.then(|| {
                parameters.push(value);
                parameters.len() - 1
            })
        });
        let is_read = |number: usize| {
            let reads = |region: &crate::plan::Region| region.location == Location::Static(number);
            plan.steps.iter().flat_map(|step| &step.inputs).any(reads)
        };
        let mut statics = Vec::new();
        for (number, &value) in parameters.iter().enumerate() {
            let (dtype, shape) = (graph.dtype(value), graph.shape(value));
            statics.push(match (known(value), &graph.node_of(value).op) {
                (Some(buffer), _) => buffer,
                (None, Op::Parameter { name }) if is_read(number) => {
                    Arc::new(self.load_parameter(name, dtype, shape)?)
                }
                _ => Arc::new(self.backend.allocate(dtype, 0)?),
            });
        }
        let mut slots = Slots::new();
        slots.prepare(&self.backend, &plan)?;
        let mut memory = Memory { slots: &mut slots, statics: &statics, states: Vec::new() };
        run_steps(&self.backend, &plan, &mut memory, None)?;
        memory.take_output(&plan, 0)
    }

    /// The rows of a matrix that is a parameter, or parameters one upon another, where none is in
    /// memory and the source gives them one by one.
    fn rows(
        &self,
        lowered: &Lowered,
        matrix: Value,
        known: &impl Fn(Value) -> Option<Arc<B::Buffer>>,
    ) -> Result<Option<Stacked<'_>>> {
        let graph = &lowered.graph;
        let node = graph.node_of(matrix);
        let parts = match &node.op {
            Op::Parameter { .. } => std::slice::from_ref(&matrix),
            Op::Concat { axis: 0 } => &node.inputs[..],
            _ => return Ok(None),
        };
        let mut rows = Vec::new();
        for &part in parts {
            let (Op::Parameter { name }, &[n, k]) =
                (&graph.node_of(part).op, &graph.shape(part)[..])
            else {
                return Ok(None);
            };
            if graph.dtype(part) != DType::F32 || known(part).is_some() {
                return Ok(None);
            }
            let source = self.shared.source.rows(name);
            let source = source.map_err(|problem| unavailable(name, problem))?;
            let Some(source) = source else { return Ok(None) };
            if source.extents() != [n, k] {
                let found = (source.extents().into(), DType::F32);
                return Err(mismatch(name, (graph.shape(part).clone(), DType::F32), found));
            }
            rows.push(source);
        }
        Ok(Some(Stacked(rows)))
    }
}

fn unavailable(name: &str, problem: String) -> Error {
    Error::Parameter { name: name.into(), problem }
}

fn mismatch(name: &str, expected: (Shape, DType), found: (Shape, DType)) -> Error {
    Error::Mismatch {
        kind: "parameter",
        name: name.into(),
        expected: expected.0,
        expected_dtype: expected.1,
        found: found.0,
        found_dtype: found.1,
    }
}
