//! Joins linear layers that read the same operand: queries, keys and values of self-attention
//! become one product with a weight three times as tall, and the keys and values of all layers'
//! cross-attention one.
//!
//! The joined weight depends on parameters alone, so the session folds it at load. Each element of
//! the result is the same dot product as before; the layers' results are views of the joined one.

use super::is_static;
use super::rewriting::Rewriting;
use crate::fused::{Fused, Linear, LinearOperands, Precision};
use crate::graph::Node;
use crate::op::Op;
use crate::{Graph, Value};
use std::collections::HashMap;

/// The graph with such layers joined. Only layers without activation and residual, whose weights
/// are static, take part.
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

    let mut rewriting = Rewriting::new(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        match group_of.get(&index) {
            Some(members) if members[0] == index => {
                let nodes: Vec<&Node> =
                    members.iter().map(|&member| &graph.nodes[member]).collect();
                join(&mut rewriting, graph, &nodes);
            }
            Some(_) => {}
            None => rewriting.copy(node),
        }
    }
    rewriting.finish()
}

/// Puts views of one layer in the place of several.
fn join(rewriting: &mut Rewriting<'_>, old: &Graph, nodes: &[&Node]) {
    let Op::Fused(Fused::Linear(op)) = nodes[0].op else {
        unreachable!("only linear layers are joined")
    };
    let layers: Vec<_> = nodes.iter().map(|node| op.operands(&node.inputs)).collect();
    let x = rewriting.value(layers[0].x);
    rewriting.new.set_scope(nodes[0].scope.clone());
    let weight = one_below_the_other(rewriting, layers.iter().map(|layer| layer.weight));
    let biases = layers.iter().filter_map(|layer| layer.bias);
    let bias = op.bias.then(|| one_below_the_other(rewriting, biases));
    let operands = LinearOperands { x, weight, bias, residual: None };
    let joined = rewriting.new.fused(op, &operands.list());
    let axis = rewriting.new.shape(joined).len() - 1;
    let mut start = 0;
    for node in nodes {
        let length = old.shape(node.outputs[0])[axis];
        let part = rewriting.new.slice(joined, axis, start, length);
        rewriting.replace(&node.outputs, [part]);
        start += length;
    }
}

/// Weights or biases along their first axis.
fn one_below_the_other(rewriting: &mut Rewriting<'_>, parts: impl Iterator<Item = Value>) -> Value {
    let parts: Vec<Value> = parts.map(|part| rewriting.value(part)).collect();
    rewriting.new.concat(0, &parts)
}
