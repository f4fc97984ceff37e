//! A graph rewritten node by node.

use crate::graph::{Node, Renamed};
use crate::op::Op;
use crate::{Graph, Value};
use smallvec::SmallVec;

/// A new graph under way, and what the values of the old one are called in it.
pub(super) struct Rewriting<'a> {
    old: &'a Graph,
    pub(super) new: Graph,
    renamed: Renamed,
}

impl<'a> Rewriting<'a> {
    pub(super) fn new(old: &'a Graph) -> Self {
        Rewriting { old, new: Graph::new(), renamed: Renamed::none_of(old) }
    }

    /// The new handle of an old value. A value may be needed before its node has its turn: the node
    /// is copied then.
    pub(super) fn value(&mut self, old: Value) -> Value {
        if self.renamed.get(old).is_none() {
            self.copy(self.old.node_of(old));
        }
        self.renamed.of(old)
    }

    /// Copies a node, unless it has been copied already.
    pub(super) fn copy(&mut self, node: &Node) {
        if !self.renamed.has(node) {
            let inputs: SmallVec<[Value; 5]> =
                node.inputs.iter().map(|&input| self.value(input)).collect();
            let outputs = self.new.add_copy(node, self.old, &inputs);
            self.replace(&node.outputs, outputs);
        }
    }

    /// Adds another op in the place of a node's: on these old operands, with the node's results.
    pub(super) fn copy_as(&mut self, node: &Node, op: Op, inputs: &[Value]) {
        let (outputs, scope) = (node.outputs.clone(), node.scope.clone());
        self.copy(&Node { op, inputs: SmallVec::from_slice(inputs), outputs, scope });
    }

    /// Puts new values in the place of old ones.
    pub(super) fn replace(&mut self, old: &[Value], new: impl IntoIterator<Item = Value>) {
        self.renamed.rename(old, new);
    }

    /// The new graph, with the outputs and labels of the old.
    pub(super) fn finish(self) -> Graph {
        let Rewriting { old, mut new, renamed } = self;
        new.outputs = old.outputs.iter().map(|&output| renamed.of(output)).collect();
        let labels = old.labels.iter();
        new.labels = labels.map(|(name, value)| (name.clone(), renamed.of(*value))).collect();
        new
    }
}
