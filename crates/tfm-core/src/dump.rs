//! The graph as text, one line a node, and as a DOT picture.

use crate::Graph;
use crate::graph::Node;
use crate::op::Op;
use std::fmt::{self, Write};

impl fmt::Display for Graph {
    /// One line a node: `%7: f32 [5, 256] = linear(%3, %4, %5)  # encoder.layers.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            for (position, output) in node.outputs.iter().enumerate() {
                let separator = if position > 0 { ", " } else { "" };
                let (dtype, shape) = (self.dtype(*output), self.shape(*output));
                write!(f, "{separator}%{}: {dtype} {shape}", output.index())?;
            }
            let inputs: Vec<String> =
                node.inputs.iter().map(|i| format!("%{}", i.index())).collect();
            write!(f, " = {}({})", describe(node), inputs.join(", "))?;
            match &*node.scope {
                "" => f.write_str("\n")?,
                scope => writeln!(f, "  # {scope}")?,
            }
        }
        let outputs: Vec<String> = self.outputs.iter().map(|o| format!("%{}", o.index())).collect();
        writeln!(f, "return {}", outputs.join(", "))
    }
}

impl Graph {
    /// The graph in Graphviz's DOT language.
    pub fn to_dot(&self) -> String {
        let mut dot = String::from("digraph tfm {\n  node [shape=box, fontname=\"monospace\"];\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let shape = self.shape(node.outputs[0]);
            let label =
                format!("{} {shape}", describe(node)).replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(dot, "  n{index} [label=\"{label}\"];");
            for input in &node.inputs {
                let _ = writeln!(dot, "  n{} -> n{index};", self.values[input.index()].node);
            }
        }
        dot.push_str("}\n");
        dot
    }
}

fn describe(node: &Node) -> String {
    match &node.op {
        Op::Input { name, .. } => format!("input \"{name}\""),
        Op::Parameter { name } => format!("parameter \"{name}\""),
        Op::State { name } => format!("state \"{name}\""),
        Op::Constant(number) => format!("{}", number.0),
        op => op.name(),
    }
}
