//! Moves what follows a linear layer into it: an activation, then a residual. Model code then reads
//! `x + sublayer(x)`, and no backend writes the product twice.

use super::rewriting::Rewriting;
use crate::fused::{Activate, Fused, Linear, LinearOperands};
use crate::graph::ValueInfo;
use crate::op::{BinaryOp, Op};
use crate::{Graph, Value};

/// The graph with activations and residuals fused. A linear layer stays as it is if its own result
/// is read by others, labelled or returned, or if it would have to read a state after a write to
/// it.
pub fn fuse_linears(graph: &Graph) -> Graph {
    let mut uses = vec![0u32; graph.values.len()];
    let inputs = graph.nodes.iter().flat_map(|node| &node.inputs);
    for value in inputs.chain(&graph.outputs).chain(graph.labels.iter().map(|(_, value)| value)) {
        uses[value.index()] += 1;
    }

    let overwritten = overwritten(graph);

    // Forwards: `fused[v]` is the linear layer, with its operands, that computes v entirely.
    let mut fused: Vec<Option<(Linear, LinearOperands<Value>)>> = vec![None; graph.values.len()];
    let mut is_absorbed = vec![false; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let output = node.outputs[0].index();
        // The layer moves to this node, and reads its operands here.
        let is_intact = |operands: LinearOperands<Value>| {
            operands.list().iter().all(|operand| overwritten[operand.index()] > index)
        };
        let single = |value: Value| {
            let layer = (uses[value.index()] == 1).then_some(fused[value.index()]).flatten();
            layer.filter(|(_, operands)| is_intact(*operands))
        };
        let found = match &node.op {
            Op::Fused(Fused::Linear(linear)) => {
                Some((None, *linear, linear.operands(&node.inputs)))
            }
            Op::Fused(Fused::Activate(Activate(activation))) => single(node.inputs[0])
                .filter(|(linear, _)| linear.activation.is_none() && !linear.residual)
                .map(|(linear, operands)| {
                    let linear = Linear { activation: Some(*activation), ..linear };
                    (Some(node.inputs[0]), linear, operands)
                }),
            Op::Binary(BinaryOp::Add) => {
                let pairs = [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])];
                pairs.into_iter().find_map(|(product, residual)| {
                    let (linear, operands) =
                        single(product).filter(|(linear, _)| !linear.residual)?;
                    let linear = Linear { residual: true, ..linear };
                    let operands = LinearOperands { residual: Some(residual), ..operands };
                    Some((Some(product), linear, operands))
                })
            }
            _ => None,
        };
        if let Some((part, linear, operands)) = found {
            if let Some(part) = part {
                is_absorbed[part.index()] = true;
            }
            fused[output] = Some((linear, operands));
        }
    }

    let mut rewriting = Rewriting::new(graph);
    for node in &graph.nodes {
        let output = node.outputs[0].index();
        match fused[output] {
            _ if is_absorbed[output] => {}
            Some((linear, operands)) => {
                rewriting.copy_as(node, Op::Fused(linear.into()), &operands.list());
            }
            None => rewriting.copy(node),
        }
    }
    rewriting.finish()
}

/// For each value that lies in a state, the number of the node that overwrites it; for others
/// `usize::MAX`.
fn overwritten(graph: &Graph) -> Vec<usize> {
    let mut by_state = vec![usize::MAX; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for &written in &node.inputs[..node.op.in_place()] {
            if graph.is_whole_state(written) {
                by_state[written.index()] = index;
            }
        }
    }
    let state = |value: &ValueInfo| value.state.map_or(usize::MAX, |state| by_state[state.index()]);
    graph.values.iter().map(state).collect()
}
