//! Moves what follows a linear layer into it: an activation, then a residual. Model code then reads
//! `x + sublayer(x)`, and no backend writes the product twice.

use crate::fused::{Activate, Fused, Linear};
use crate::graph::Node;
use crate::op::{BinaryOp, Op};
use crate::{Graph, Value};
use smallvec::SmallVec;

/// The graph with activations and residuals fused. A linear layer whose own result is read by others,
/// labelled or returned stays as it is.
pub fn fuse_linears(graph: &Graph) -> Graph {
    let mut uses = vec![0u32; graph.values.len()];
    let inputs = graph.nodes.iter().flat_map(|node| &node.inputs);
    for value in inputs.chain(&graph.outputs).chain(graph.labels.iter().map(|(_, value)| value)) {
        uses[value.index()] += 1;
    }

    // Forwards: `absorbed[v]` is the linear layer, with its operands, that computes v entirely.
    let mut fused: Vec<Option<(Linear, SmallVec<[Value; 5]>)>> = vec![None; graph.values.len()];
    let mut is_absorbed = vec![false; graph.values.len()];
    for node in &graph.nodes {
        let output = node.outputs[0].index();
        let single = |value: Value| {
            (uses[value.index()] == 1).then(|| fused[value.index()].clone()).flatten()
        };
        let found = match &node.op {
            // The layer moves to where its result is used; a state may be written in between.
            Op::Fused(Fused::Linear(linear)) => {
                let in_state = |input: &Value| graph.values[input.index()].state.is_some();
                let stays = node.inputs.iter().any(in_state);
                (!stays).then(|| (None, *linear, node.inputs.clone()))
            }
            Op::Fused(Fused::Activate(Activate(activation))) => single(node.inputs[0])
                .filter(|(linear, _)| linear.activation.is_none() && !linear.residual)
                .map(|(linear, inputs)| {
                    let linear = Linear { activation: Some(*activation), ..linear };
                    (Some(node.inputs[0]), linear, inputs)
                }),
            Op::Binary(BinaryOp::Add) => {
                let pairs = [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])];
                pairs.into_iter().find_map(|(product, residual)| {
                    let (linear, mut inputs) =
                        single(product).filter(|(linear, _)| !linear.residual)?;
                    inputs.push(residual);
                    Some((Some(product), Linear { residual: true, ..linear }, inputs))
                })
            }
            _ => None,
        };
        if let Some((part, linear, inputs)) = found {
            if let Some(part) = part {
                is_absorbed[part.index()] = true;
            }
            fused[output] = Some((linear, inputs));
        }
    }

    let mut new = Graph::new();
    let mut map: Vec<Option<Value>> = vec![None; graph.values.len()];
    for node in &graph.nodes {
        let output = node.outputs[0].index();
        if is_absorbed[output] {
            continue;
        }
        let outputs = match fused[output].take() {
            Some((linear, inputs)) => {
                let whole = Node {
                    op: Op::Fused(linear.into()),
                    inputs,
                    outputs: node.outputs.clone(),
                    scope: node.scope.clone(),
                };
                copy(&mut new, &whole, graph, &map)
            }
            None => copy(&mut new, node, graph, &map),
        };
        for (old, value) in node.outputs.iter().zip(outputs) {
            map[old.index()] = Some(value);
        }
    }
    let mapped = |value: &Value| map[value.index()].expect("only absorbed values vanish");
    new.outputs = graph.outputs.iter().map(mapped).collect();
    new.labels = graph.labels.iter().map(|(name, value)| (name.clone(), mapped(value))).collect();
    new
}

fn copy(new: &mut Graph, node: &Node, old: &Graph, map: &[Option<Value>]) -> SmallVec<[Value; 2]> {
    let inputs: SmallVec<[Value; 5]> =
        node.inputs.iter().map(|input| map[input.index()].expect("operands come first")).collect();
    new.add_copy(node, old, &inputs)
}
