//! The plan: the order of the steps, how long each value lives ([`liveness`]), and which slot of
//! memory holds it ([`slots`]).

mod liveness;
mod slots;

pub(crate) use liveness::{Writes, owners};
pub(crate) use slots::Reuse;

use crate::graph::{Node, Value};
use crate::op::Op;
use crate::passes::Lowered;
use crate::{DType, Layout, Shape};
use liveness::Liveness;
use slots::Slots;
use smallvec::SmallVec;
use std::sync::Arc;

/// Where a value's elements are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// Memory reused by values that don't live at the same time; slots of a type are numbered from
    /// 0.
    Slot(DType, usize),
    /// Device memory given to the run.
    State(usize),
    /// Memory of the session that no run changes: parameters, and what was folded from them.
    Static(usize),
}

/// The memory of a value as a step sees it.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) location: Location,
    pub(crate) dtype: DType,
    pub(crate) layout: Layout,
}

/// One call of the backend.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) inputs: SmallVec<[Region; 5]>,
    pub(crate) outputs: SmallVec<[Region; 2]>,
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

/// The order of a graph's steps and the memory they use.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<Binding>,
    pub(crate) states: Vec<Binding>,
    pub(crate) outputs: Vec<Region>,
    /// The elements each slot must hold, by type and number.
    pub(crate) slots: Vec<(DType, Vec<usize>)>,
}

impl Plan {
    /// Orders the nodes that `outputs` (and, as `writes` says, writes to states) need. `given` says
    /// where a value already lies (statics); such a value's node and what only it needs are left
    /// out.
    pub(crate) fn new(
        lowered: &Lowered,
        outputs: &[Value],
        writes: Writes,
        reuse: Reuse,
        mut given: impl FnMut(Value) -> Option<usize>,
    ) -> Plan {
        let graph = &lowered.graph;
        let owners = owners(lowered);
        let is_owner = |index: &usize| owners[*index].index() == *index;
        let given: Vec<Option<usize>> = (0..graph.values.len())
            .map(|index| is_owner(&index).then(|| given(Value(index as u32))).flatten())
            .collect();
        let liveness = Liveness::new(lowered, outputs, writes, owners, &given);
        let end = graph.nodes.len();
        let mut planning = Planning {
            lowered,
            reuse,
            locations: given.into_iter().map(|number| number.map(Location::Static)).collect(),
            expiring: vec![SmallVec::new(); end],
            liveness,
            slots: Slots::default(),
            plan: Plan::default(),
        };
        // Inputs come first: a run writes them before all steps, so none may share a slot with a
        // value that dies before the input's turn.
        let is_input = |index: &usize| matches!(graph.nodes[*index].op, Op::Input { .. });
        let (inputs, others): (Vec<usize>, Vec<usize>) =
            (0..end).filter(|&index| planning.liveness.needed[index]).partition(is_input);
        for index in inputs.into_iter().chain(others) {
            planning.node(index, &graph.nodes[index]);
        }
        let outputs = outputs.iter().map(|&output| planning.region(output)).collect();
        Plan { outputs, slots: planning.slots.sizes, ..planning.plan }
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

/// A plan under construction: the nodes so far have their memory and their steps.
struct Planning<'a> {
    lowered: &'a Lowered,
    reuse: Reuse,
    liveness: Liveness,
    /// Where the memory of each owner lies, once its node has been placed.
    locations: Vec<Option<Location>>,
    /// The owners whose slots each node frees.
    expiring: Vec<SmallVec<[Value; 4]>>,
    slots: Slots,
    plan: Plan,
}

/// How the operands that a node computes in place reach the results' memory.
#[derive(Default)]
struct InPlace {
    /// The owners of memory that results take over.
    taken_over: SmallVec<[Value; 2]>,
    /// Operands that are still needed: each is copied to the memory of a result.
    copied: SmallVec<[(Value, Value); 2]>,
}

impl Planning<'_> {
    /// Gives the node's results their memory, adds its step, and takes back what it reads for the
    /// last time.
    fn node(&mut self, index: usize, node: &Node) {
        let mut in_place = InPlace::default();
        for (number, &output) in node.outputs.iter().enumerate() {
            if self.liveness.owner(output) != output {
                continue; // a view, or a state written in place
            }
            let operand = (number < node.op.in_place()).then(|| node.inputs[number]);
            let location = self.locate(index, node, output, operand, &mut in_place);
            self.locations[output.index()] = Some(location);
            self.bind(node, output, location);
            self.expire(index, node, output, location);
        }
        self.steps(node, &in_place.copied);
        for value in self.expiring[index].iter().filter(|&x| !in_place.taken_over.contains(x)) {
            if let Some(Location::Slot(dtype, slot)) = self.locations[value.index()] {
                self.slots.give_back(dtype, slot);
            }
        }
    }

    /// The memory of a result: a state's own, that of the operand in whose place it is computed, or
    /// a slot.
    fn locate(
        &mut self,
        index: usize,
        node: &Node,
        output: Value,
        operand: Option<Value>,
        in_place: &mut InPlace,
    ) -> Location {
        if let Op::State { .. } = node.op {
            return Location::State(self.plan.states.len());
        }
        if let Some((owner, slot)) = operand.and_then(|x| self.last_read(index, node, output, x)) {
            in_place.taken_over.push(owner);
            return slot;
        }
        in_place.copied.extend(operand.map(|operand| (operand, output)));
        let graph = &self.lowered.graph;
        let dtype = graph.dtype(output);
        Location::Slot(dtype, self.slots.take(dtype, graph.shape(output).elements()))
    }

    /// The operand's owner and slot, if only this node still reads that memory and it is as large
    /// as the result.
    fn last_read(
        &self,
        index: usize,
        node: &Node,
        output: Value,
        operand: Value,
    ) -> Option<(Value, Location)> {
        let graph = &self.lowered.graph;
        let owner = self.liveness.owner(operand);
        let uses = node.inputs.iter().filter(|input| self.liveness.owner(**input) == owner);
        let is_last = uses.count() == 1 && self.liveness.last_use(owner) == Some(index);
        let layout = &self.lowered.layouts[operand.index()];
        let is_whole = layout.is_contiguous()
            && layout.offset() == 0
            && graph.shape(output).elements() == graph.shape(owner).elements();
        let slot = self.locations[owner.index()]
            .filter(|location| matches!(location, Location::Slot(..)))?;
        (is_last && is_whole && self.reuse == Reuse::Always).then_some((owner, slot))
    }

    /// Adds what a run must bind: an input or a state.
    fn bind(&mut self, node: &Node, output: Value, location: Location) {
        let graph = &self.lowered.graph;
        let (dtype, shape) = (graph.dtype(output), graph.shape(output));
        let binding = |name: &Arc<str>, bound| Binding {
            name: name.clone(),
            dtype,
            shape: shape.clone(),
            bound,
            location,
        };
        match &node.op {
            Op::Input { name, bound } => self.plan.inputs.push(binding(name, *bound)),
            Op::State { name } => self.plan.states.push(binding(name, None)),
            _ => {}
        }
    }

    /// Notes which node frees the result's slot.
    fn expire(&mut self, index: usize, node: &Node, output: Value, location: Location) {
        // A result that nobody reads expires at its own step.
        let last = self.liveness.last_use(output).unwrap_or(index);
        // Packing replaces the slot's memory by the backend's own, of no use to others.
        let is_reusable = matches!(location, Location::Slot(..)) && !matches!(node.op, Op::Pack(_));
        // An output lives on.
        if let (Some(expiring), true) = (self.expiring.get_mut(last), is_reusable)
            && self.reuse == Reuse::Always
        {
            expiring.push(output);
        }
    }

    /// Adds the node's step, after copies of the operands that it computes in place.
    fn steps(&mut self, node: &Node, copied: &[(Value, Value)]) {
        for &(operand, output) in copied {
            let step = Step {
                op: Op::Contiguous,
                inputs: SmallVec::from_iter([self.region(operand)]),
                outputs: SmallVec::from_iter([self.region(output)]),
                scope: node.scope.clone(),
            };
            self.plan.steps.push(step);
        }
        let is_source = matches!(node.op, Op::Input { .. } | Op::State { .. });
        if !is_source && !node.op.is_movement() {
            let step = Step {
                inputs: node.inputs.iter().map(|&input| self.region(input)).collect(),
                outputs: node.outputs.iter().map(|&output| self.region(output)).collect(),
                op: node.op.clone(),
                scope: node.scope.clone(),
            };
            self.plan.steps.push(step);
        }
    }

    /// The memory of a value that has its location.
    fn region(&self, value: Value) -> Region {
        let owner = self.liveness.owner(value);
        Region {
            location: self.locations[owner.index()].expect("defined before its use"),
            dtype: self.lowered.graph.dtype(value),
            layout: self.lowered.layouts[value.index()].clone(),
        }
    }
}
