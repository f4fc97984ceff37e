//! Joins linear layers that read the same operand: queries, keys and values of self-attention become one
//! product with a weight three times as tall, and the keys and values of all layers' cross-attention one.
//!
//! The joined weight depends on parameters alone, so it is folded at load. Each element of the result is
//! the same dot product as before; the layers' results are views of the joined one.

use super::is_static;
use crate::fused::{Fused, Linear, LinearOperands, Precision};
use crate::graph::Node;
use crate::op::Op;
use crate::{Graph, Value};
use smallvec::SmallVec;
use std::collections::HashMap;

/// The graph with such layers joined. Only layers without activation and residual, whose weights are
/// static, take part.
pub fn join_linears(graph: &Graph) -> Graph {
    let mut statics = vec![false; graph.values.len()];
    for node in &graph.nodes {
        let value = is_static(&node.op, node.inputs.iter().map(|input| statics[input.index()]));
        node.outputs.iter().for_each(|output| statics[output.index()] = value);
    }

    let mut groups: HashMap<(Value, bool, Precision), Vec<usize>> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let Op::Fused(Fused::Linear(op)) = node.op else { continue };
        let Linear { activation: None, residual: false, precision, .. } = op else { continue };
        let LinearOperands { x, weight, bias, .. } = op.operands(&node.inputs);
        let is_static = |value: Value| statics[value.index()];
        if is_static(weight) && bias.is_none_or(is_static) && !is_static(x) {
            groups.entry((x, bias.is_some(), precision)).or_default().push(index);
        }
    }
    groups.retain(|_, members| members.len() > 1);
    let group_of: HashMap<usize, &Vec<usize>> = groups
        .values()
        .flat_map(|members| members.iter().map(move |&member| (member, members)))
        .collect();

    let mut rebuild =
        Rebuild { old: graph, new: Graph::new(), map: vec![None; graph.values.len()] };
    for (index, node) in graph.nodes.iter().enumerate() {
        match group_of.get(&index) {
            Some(members) if members[0] == index => rebuild.join(members),
            Some(_) => {}
            None => rebuild.copy(node),
        }
    }
    rebuild.finish()
}

/// A copy of a graph under way, from old values to new.
struct Rebuild<'a> {
    old: &'a Graph,
    new: Graph,
    map: Vec<Option<Value>>,
}

impl Rebuild<'_> {
    /// The new handle of an old value. A static value may be needed before its turn and is copied then.
    fn value(&mut self, old: Value) -> Value {
        match self.map[old.index()] {
            Some(value) => value,
            None => {
                self.copy(self.old.node_of(old));
                self.map[old.index()].expect("a node maps all its outputs")
            }
        }
    }

    fn copy(&mut self, node: &Node) {
        if self.map[node.outputs[0].index()].is_some() {
            return;
        }
        let inputs: SmallVec<[Value; 5]> =
            node.inputs.iter().map(|&input| self.value(input)).collect();
        let new = self.new.add_copy(node, self.old, &inputs);
        for (&old, new) in node.outputs.iter().zip(new) {
            self.map[old.index()] = Some(new);
        }
    }

    fn join(&mut self, members: &[usize]) {
        let old = self.old;
        let nodes: Vec<&Node> = members.iter().map(|&member| &old.nodes[member]).collect();
        let Op::Fused(Fused::Linear(op)) = nodes[0].op else {
            unreachable!("only linear layers are joined")
        };
        let layers: Vec<_> = nodes.iter().map(|node| op.operands(&node.inputs)).collect();
        let x = self.value(layers[0].x);
        self.new.set_scope(nodes[0].scope.clone());
        let weight = self.one_below_the_other(layers.iter().map(|layer| layer.weight));
        let bias =
            op.bias.then(|| self.one_below_the_other(layers.iter().filter_map(|layer| layer.bias)));
        let operands = LinearOperands { x, weight, bias, residual: None };
        let joined = self.new.fused(op, &operands.list());
        let axis = self.new.shape(joined).len() - 1;
        let mut start = 0;
        for node in nodes {
            let length = old.shape(node.outputs[0])[axis];
            self.map[node.outputs[0].index()] = Some(self.new.slice(joined, axis, start, length));
            start += length;
        }
    }

    /// Weights or biases along their first axis.
    fn one_below_the_other(&mut self, parts: impl Iterator<Item = Value>) -> Value {
        let parts: Vec<Value> = parts.map(|part| self.value(part)).collect();
        self.new.concat(0, &parts)
    }

    fn finish(self) -> Graph {
        let Rebuild { old, mut new, map } = self;
        let mapped = |value: &Value| map[value.index()].expect("every node was copied");
        new.outputs = old.outputs.iter().map(mapped).collect();
        new.labels = old.labels.iter().map(|(name, value)| (name.clone(), mapped(value))).collect();
        new
    }
}
