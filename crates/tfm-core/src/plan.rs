//! The plan: the order of the steps, how long each value lives, and which slot of memory holds it.

use crate::graph::Value;
use crate::op::Op;
use crate::passes::Lowered;
use crate::{DType, Layout, Shape};
use smallvec::SmallVec;
use std::sync::Arc;

/// Where a value's elements are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// Memory reused by values that don't live at the same time; slots of a type are numbered from 0.
    Slot(DType, usize),
    /// Device memory given to the run.
    State(usize),
    /// Memory of the session that no run changes: parameters, and what was folded from them.
    Static(usize),
}

/// A value as a step sees it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) location: Location,
    pub(crate) dtype: DType,
    pub(crate) layout: Layout,
}

/// One call of the backend.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) inputs: SmallVec<[Place; 5]>,
    pub(crate) outputs: SmallVec<[Place; 2]>,
    pub(crate) scope: Arc<str>,
}

/// An input or a state that a run must bind.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) name: Arc<str>,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) bound: Option<usize>,
    pub(crate) location: Location,
}

/// What becomes of the writes to states that no output needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// They are steps of the plan: a run changes the states.
    Keep,
    /// They are left out: the plan only computes its outputs.
    Drop,
}

/// Whether the slot of a value that nobody reads any more serves others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Always,
    Never,
}

/// The order of a graph's steps and the memory they use.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<Binding>,
    pub(crate) states: Vec<Binding>,
    pub(crate) outputs: Vec<Place>,
    /// The elements each slot must hold, by type and number.
    pub(crate) slots: Vec<(DType, Vec<usize>)>,
}

impl Plan {
    /// Orders the nodes that `outputs` (and, as `writes` says, writes to states) need. `given` says where a
    /// value already lies (statics); such a value's node and what only it needs are left out.
    pub(crate) fn new(
        lowered: &Lowered,
        outputs: &[Value],
        writes: Writes,
        reuse: Reuse,
        mut given: impl FnMut(Value) -> Option<usize>,
    ) -> Plan {
        let graph = &lowered.graph;
        let owners = owners(lowered);
        let given: Vec<Option<usize>> = (0..graph.values.len())
            .map(
                |index| {
                    if owners[index].index() == index { given(Value(index as u32)) } else { None }
                },
            )
            .collect();

        // Backwards: which nodes are needed, and the last step that reads each owner of memory.
        let mut needed = vec![false; graph.nodes.len()];
        let mut last_use = vec![None; graph.values.len()];
        let mut live = vec![false; graph.values.len()];
        let end = graph.nodes.len();
        for output in outputs {
            live[output.index()] = true;
            last_use[owners[output.index()].index()] = Some(end);
        }
        for (index, node) in graph.nodes.iter().enumerate().rev() {
            let is_live = node.outputs.iter().any(|output| live[output.index()]);
            let has_effect = writes == Writes::Keep && node.writes(graph);
            if !is_live && !has_effect {
                continue;
            }
            if node.outputs.iter().any(|output| given[output.index()].is_some()) {
                continue;
            }
            needed[index] = true;
            for input in &node.inputs {
                live[input.index()] = true;
                let last = &mut last_use[owners[input.index()].index()];
                *last = (*last).max(Some(index));
            }
        }

        // Forwards: a slot for each result, taken back after its last use.
        let mut plan = Plan::default();
        let mut locations: Vec<Option<Location>> =
            given.iter().map(|i| i.map(Location::Static)).collect();
        let mut free = FreeSlots::default();
        let mut expiring: Vec<SmallVec<[Value; 4]>> = vec![SmallVec::new(); end];
        // Inputs come first: a run writes them before all steps, so none may share a slot with a value
        // that dies before the input's turn.
        let is_input = |index: &usize| matches!(graph.nodes[*index].op, Op::Input { .. });
        let (inputs, others): (Vec<usize>, Vec<usize>) =
            (0..end).filter(|&index| needed[index]).partition(is_input);
        for index in inputs.into_iter().chain(others) {
            let node = &graph.nodes[index];
            // Operands whose memory results take over, and those that are copied for them before.
            let mut taken_over: SmallVec<[Value; 2]> = SmallVec::new();
            let mut copied: SmallVec<[(Value, Value); 2]> = SmallVec::new();
            for (number, &output) in node.outputs.iter().enumerate() {
                if owners[output.index()] != output {
                    continue; // a view, or a state written in place
                }
                let (dtype, shape) = (graph.dtype(output), graph.shape(output).clone());
                let operand = (number < node.op.in_place()).then(|| node.inputs[number]);
                let free_memory = operand.and_then(|operand| {
                    let owner = owners[operand.index()];
                    let uses = node.inputs.iter().filter(|input| owners[input.index()] == owner);
                    let is_last = uses.count() == 1 && last_use[owner.index()] == Some(index);
                    let layout = &lowered.layouts[operand.index()];
                    let is_whole = layout.is_contiguous()
                        && layout.offset() == 0
                        && shape.elements() == graph.shape(owner).elements();
                    let slot = locations[owner.index()]
                        .filter(|location| matches!(location, Location::Slot(..)))?;
                    (is_last && is_whole && reuse == Reuse::Always).then_some((owner, slot))
                });
                let location = match (&node.op, free_memory) {
                    (Op::State { .. }, _) => Location::State(plan.states.len()),
                    (_, Some((owner, slot))) => {
                        taken_over.push(owner);
                        slot
                    }
                    _ => {
                        copied.extend(operand.map(|operand| (operand, output)));
                        Location::Slot(dtype, free.take(dtype, shape.elements()))
                    }
                };
                locations[output.index()] = Some(location);
                let binding = |name: &Arc<str>, bound| Binding {
                    name: name.clone(),
                    dtype,
                    shape,
                    bound,
                    location,
                };
                match &node.op {
                    Op::Input { name, bound } => plan.inputs.push(binding(name, *bound)),
                    Op::State { name } => plan.states.push(binding(name, None)),
                    _ => {}
                }
                // A result that nobody reads expires at its own step.
                let last = last_use[output.index()].unwrap_or(index);
                // Packing replaces the slot's memory by the backend's own, of no use to others.
                let is_reusable =
                    matches!(location, Location::Slot(..)) && !matches!(node.op, Op::Pack(_));
                if last < end && is_reusable && reuse == Reuse::Always {
                    expiring[last].push(output);
                }
            }
            let place = |value: &Value| Place {
                location: locations[owners[value.index()].index()].expect("defined before its use"),
                dtype: graph.dtype(*value),
                layout: lowered.layouts[value.index()].clone(),
            };
            for (operand, output) in &copied {
                plan.steps.push(Step {
                    op: Op::Contiguous,
                    inputs: SmallVec::from_iter([place(operand)]),
                    outputs: SmallVec::from_iter([place(output)]),
                    scope: node.scope.clone(),
                });
            }
            let is_source = matches!(node.op, Op::Input { .. } | Op::State { .. });
            if !is_source && !node.op.is_movement() {
                plan.steps.push(Step {
                    inputs: node.inputs.iter().map(place).collect(),
                    outputs: node.outputs.iter().map(place).collect(),
                    op: node.op.clone(),
                    scope: node.scope.clone(),
                });
            }
            for value in expiring[index].iter().filter(|value| !taken_over.contains(value)) {
                if let Some(Location::Slot(dtype, slot)) = locations[value.index()] {
                    free.give_back(dtype, slot);
                }
            }
        }
        plan.outputs = outputs
            .iter()
            .map(|output| Place {
                location: locations[owners[output.index()].index()].expect("outputs are live"),
                dtype: graph.dtype(*output),
                layout: lowered.layouts[output.index()].clone(),
            })
            .collect();
        plan.slots = free.sizes;
        plan
    }

    /// The number of backend calls of a run.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The bytes of all slots together.
    pub fn workspace_bytes(&self) -> usize {
        self.slots.iter().map(|(dtype, sizes)| dtype.size() * sizes.iter().sum::<usize>()).sum()
    }
}

/// For each value the value that owns its memory: itself, or for a view and a state written in place its
/// operand's owner.
pub(crate) fn owners(lowered: &Lowered) -> Vec<Value> {
    let graph = &lowered.graph;
    let mut owners: Vec<Value> = (0..graph.values.len()).map(|index| Value(index as u32)).collect();
    for node in &graph.nodes {
        if node.op.is_movement() {
            owners[node.outputs[0].index()] = owners[node.inputs[0].index()];
        }
        let in_place = node.outputs.iter().zip(&node.inputs).take(node.op.in_place());
        for (&output, &operand) in in_place {
            if graph.is_whole_state(output) {
                owners[output.index()] = owners[operand.index()];
            }
        }
    }
    owners
}

/// The slots not in use, by type.
#[derive(Default)]
struct FreeSlots {
    sizes: Vec<(DType, Vec<usize>)>,
    free: Vec<(DType, usize)>,
}

impl FreeSlots {
    /// A slot for `elements`: the smallest free one that is large enough, else the largest free one, grown,
    /// else a new one.
    fn take(&mut self, dtype: DType, elements: usize) -> usize {
        if !self.sizes.iter().any(|(other, _)| *other == dtype) {
            self.sizes.push((dtype, Vec::new()));
        }
        let sizes =
            &mut self.sizes.iter_mut().find(|(other, _)| *other == dtype).expect("pushed above").1;
        let best = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, (other, _))| *other == dtype)
            .min_by_key(|(_, (_, slot))| {
                let size = sizes[*slot];
                if size >= elements { (0, size) } else { (1, usize::MAX - size) }
            })
            .map(|(position, _)| position);
        match best {
            Some(position) => {
                let (_, slot) = self.free.swap_remove(position);
                sizes[slot] = sizes[slot].max(elements);
                slot
            }
            None => {
                sizes.push(elements);
                sizes.len() - 1
            }
        }
    }

    fn give_back(&mut self, dtype: DType, slot: usize) {
        self.free.push((dtype, slot));
    }
}
