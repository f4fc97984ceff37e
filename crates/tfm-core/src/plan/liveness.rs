//! Liveness: which nodes a plan needs, and how long each piece of memory is read.

use crate::Value;
use crate::passes::Lowered;

/// What becomes of the writes to states that no output needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// They are steps of the plan: a run changes the states.
    Keep,
    /// They are left out: the plan only computes its outputs.
    Drop,
}

/// Which nodes are needed, and when memory is read for the last time. A piece of memory goes by its
/// owner's handle.
pub(super) struct Liveness {
    /// For each value the owner of its memory; see [`owners`].
    pub(super) owners: Vec<Value>,
    /// Whether each node is needed.
    pub(super) needed: Vec<bool>,
    /// For each owner the last node that reads it; the number of nodes, if it is an output.
    last_use: Vec<Option<usize>>,
}

impl Liveness {
    /// Walks the nodes backwards from `outputs` and, as `writes` says, from writes to states. It
    /// stops at values that are `given`.
    pub(super) fn new(
        lowered: &Lowered,
        outputs: &[Value],
        writes: Writes,
        owners: Vec<Value>,
        given: &[Option<usize>],
    ) -> Self {
        let graph = &lowered.graph;
        let end = graph.nodes.len();
        let mut needed = vec![false; end];
        let mut last_use = vec![None; graph.values.len()];
        let mut live = vec![false; graph.values.len()];
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
        Liveness { owners, needed, last_use }
    }

    /// The owner of a value's memory.
    pub(super) fn owner(&self, value: Value) -> Value {
        self.owners[value.index()]
    }

    /// The last node that reads the memory of an owner, if any does.
    pub(super) fn last_use(&self, owner: Value) -> Option<usize> {
        self.last_use[owner.index()]
    }
}

/// For each value the value that owns its memory: itself, or for a view and a state written in
/// place its operand's owner.
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
