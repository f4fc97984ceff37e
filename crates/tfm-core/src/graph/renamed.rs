//! The map from the values of a graph to their copies, in another graph or in the same.

use super::{Graph, Node, Value};
use smallvec::SmallVec;

/// For each value of a graph the handle of its copy, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Renamed(Vec<Option<Value>>);

impl Renamed {
    /// The map for a graph of which nothing has been copied yet.
    pub(crate) fn none_of(graph: &Graph) -> Self {
        Renamed(vec![None; graph.values.len()])
    }

    /// The new handle of an old value, if there is one.
    pub(crate) fn get(&self, old: Value) -> Option<Value> {
        self.0[old.index()]
    }

    /// The new handle of an old value whose node has been copied.
    pub(crate) fn of(&self, old: Value) -> Value {
        self.get(old).expect("what a node reads is copied before it")
    }

    /// The copies of a node's operands.
    pub(crate) fn operands(&self, node: &Node) -> SmallVec<[Value; 5]> {
        node.inputs.iter().map(|&input| self.of(input)).collect()
    }

    /// Whether a node has been copied.
    pub(crate) fn has(&self, node: &Node) -> bool {
        self.get(node.outputs[0]).is_some()
    }

    /// Records the copies of values.
    pub(crate) fn rename(&mut self, old: &[Value], new: impl IntoIterator<Item = Value>) {
        for (old, new) in old.iter().zip(new) {
            self.0[old.index()] = Some(new);
        }
    }
}
