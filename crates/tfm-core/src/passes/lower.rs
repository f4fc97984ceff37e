//! Lowering: what the backend computes stays, the rest is decomposed.
//!
//! After it, strides can express every movement op (where they could not, there is a copy), and
//! every fused op has operands in a layout and a storage that the backend accepts.

use super::is_static;
use crate::backend::Signature;
use crate::fused::{Fused, FusedOp};
use crate::graph::{Node, Renamed};
use crate::op::{Op, PackFormat};
use crate::{DType, Error, Graph, Layout, Result, Value};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// What lowering asks of a backend; see the methods of the same names of [`crate::Backend`].
pub trait LoweringPolicy {
    /// Whether the op runs on such operands.
    fn supports(&self, op: &Fused, signature: &Signature<'_>) -> bool;
    /// How a static operand is to be stored.
    fn pack_format(
        &self,
        op: &Fused,
        operand: usize,
        signature: &Signature<'_>,
    ) -> Option<PackFormat>;
}

/// A lowered graph, with what lowering found out about its values.
#[derive(Debug)]
pub struct Lowered {
    /// The graph. Its outputs are those of the original, then the taps.
    pub graph: Graph,
    /// The layout of each value in its storage.
    pub(crate) layouts: Vec<Layout>,
    /// Whether each value is the same at every run.
    pub(crate) statics: Vec<bool>,
}

/// Lowers `graph` for a backend. The values named by `taps` become further outputs.
///
/// # Errors
/// [`Error::UnknownTap`]; the fault of a decomposition, which would be a bug of the op.
pub fn lower(graph: &Graph, policy: &dyn LoweringPolicy, taps: &[String]) -> Result<Lowered> {
    let mut lowering = Lowering {
        policy,
        taps,
        lowered: Lowered { graph: Graph::new(), layouts: Vec::new(), statics: Vec::new() },
        tapped: HashMap::new(),
        names: Vec::new(),
    };
    let mut renamed = Renamed::none_of(graph);
    lowering.nodes(graph, &mut renamed)?;
    let mut outputs: Vec<Value> = graph.outputs.iter().map(|&output| renamed.of(output)).collect();
    for tap in taps {
        outputs.push(*lowering.tapped.get(tap.as_str()).ok_or_else(|| lowering.unknown(tap))?);
    }
    let mut lowered = lowering.lowered;
    lowered.graph.outputs = outputs;
    lowered.graph.check()?;
    Ok(lowered)
}

struct Lowering<'a> {
    policy: &'a dyn LoweringPolicy,
    taps: &'a [String],
    lowered: Lowered,
    tapped: HashMap<Arc<str>, Value>,
    names: Vec<Arc<str>>,
}

impl Lowering<'_> {
    /// Lowers all nodes of `graph` but those that have been `renamed` already.
    fn nodes(&mut self, graph: &Graph, renamed: &mut Renamed) -> Result<()> {
        for node in &graph.nodes {
            if !renamed.has(node) {
                let outputs = self.node(graph, node, renamed.operands(node))?;
                renamed.rename(&node.outputs, outputs);
            }
        }
        if !self.taps.is_empty() {
            for (name, value) in &graph.labels {
                self.tapped.insert(name.clone(), renamed.of(*value));
                self.names.push(name.clone());
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        graph: &Graph,
        node: &Node,
        mut inputs: SmallVec<[Value; 5]>,
    ) -> Result<SmallVec<[Value; 2]>> {
        self.lowered.graph.set_scope(node.scope.clone());
        match &node.op {
            Op::Fused(op) => self.fused(node, op, inputs),
            Op::Reshape(shape) => {
                if self.layout(inputs[0]).reshape(shape).is_none() {
                    inputs[0] = self.emit_op(Op::Contiguous, &inputs[..1]);
                }
                Ok(self.emit(node, graph, &inputs))
            }
            _ => Ok(self.emit(node, graph, &inputs)),
        }
    }

    fn fused(
        &mut self,
        node: &Node,
        op: &Fused,
        mut inputs: SmallVec<[Value; 5]>,
    ) -> Result<SmallVec<[Value; 2]>> {
        let is_tapped = self.taps.iter().any(|tap| {
            op.labels().iter().any(|label| match tap.strip_suffix(label) {
                Some("") => node.scope.is_empty(),
                Some(prefix) => prefix.strip_suffix('.') == Some(&node.scope),
                None => false,
            })
        });
        if !is_tapped {
            let mut signature = self.signature(&inputs);
            let mut supported = self.policy.supports(op, &Signature { inputs: &signature });
            if !supported && signature.iter().any(|(_, layout)| !layout.is_contiguous()) {
                for (_, layout) in &mut signature {
                    *layout = Layout::contiguous(layout.shape());
                }
                supported = self.policy.supports(op, &Signature { inputs: &signature });
                if supported {
                    for input in &mut inputs {
                        if !self.layout(*input).is_contiguous() {
                            *input = self.emit_op(Op::Contiguous, &[*input]);
                        }
                    }
                }
            }
            if supported {
                for (position, input) in inputs.iter_mut().enumerate() {
                    if !self.lowered.statics[input.index()] {
                        continue;
                    }
                    let signature = Signature { inputs: &signature };
                    if let Some(format) = self.policy.pack_format(op, position, &signature) {
                        *input = self.emit_op(Op::Pack(format), &[*input]);
                    }
                }
                return Ok(self.emit_all(node.op.clone(), &inputs));
            }
        }
        self.decompose(node, op, &inputs)
    }

    /// Lowers the op's decomposition, which may hold fused ops again.
    fn decompose(
        &mut self,
        node: &Node,
        op: &Fused,
        inputs: &[Value],
    ) -> Result<SmallVec<[Value; 2]>> {
        let mut inside = Graph::new();
        inside.set_scope(node.scope.clone());
        let outer = &self.lowered.graph;
        let placeholder = |(number, &input): (usize, &Value)| {
            let (dtype, shape) = (outer.dtype(input), outer.shape(input).clone());
            match number < op.in_place() && outer.is_whole_state(input) {
                true => inside.state(&format!("operand {number}"), dtype, shape),
                false => inside.input("operand", dtype, shape),
            }
        };
        let placeholders: SmallVec<[Value; 5]> =
            inputs.iter().enumerate().map(placeholder).collect();
        let outputs = op.decompose(&mut inside, &placeholders);
        inside.check()?;
        let mut renamed = Renamed::none_of(&inside);
        renamed.rename(&placeholders, inputs.iter().copied());
        self.nodes(&inside, &mut renamed)?;
        Ok(outputs.iter().map(|&output| renamed.of(output)).collect())
    }

    fn signature(&self, inputs: &[Value]) -> SmallVec<[(DType, Layout); 5]> {
        inputs
            .iter()
            .map(|&input| (self.lowered.graph.dtype(input), self.layout(input).clone()))
            .collect()
    }

    fn layout(&self, value: Value) -> &Layout {
        &self.lowered.layouts[value.index()]
    }

    fn emit(&mut self, node: &Node, old: &Graph, inputs: &[Value]) -> SmallVec<[Value; 2]> {
        let outputs = self.lowered.graph.add_copy(node, old, inputs);
        self.learn(&node.op, inputs, &outputs);
        outputs
    }

    fn emit_op(&mut self, op: Op, inputs: &[Value]) -> Value {
        self.emit_all(op, inputs)[0]
    }

    fn emit_all(&mut self, op: Op, inputs: &[Value]) -> SmallVec<[Value; 2]> {
        let outputs = self.lowered.graph.add_all(op.clone(), inputs);
        self.learn(&op, inputs, &outputs);
        outputs
    }

    /// Records layout and staticness of new values.
    fn learn(&mut self, op: &Op, inputs: &[Value], outputs: &[Value]) {
        let all_static =
            is_static(op, inputs.iter().map(|input| self.lowered.statics[input.index()]));
        for &output in outputs {
            let layout = match op {
                Op::Reshape(shape) => {
                    self.layout(inputs[0]).reshape(shape).expect("checked by `node`")
                }
                Op::Permute(order) => self.layout(inputs[0]).permute(order),
                Op::Broadcast(shape) => self.layout(inputs[0]).broadcast(shape),
                Op::Slice { axis, start, length } => {
                    self.layout(inputs[0]).slice(*axis, *start, *length)
                }
                _ => Layout::contiguous(self.lowered.graph.shape(output)),
            };
            self.lowered.layouts.push(layout);
            self.lowered.statics.push(all_static);
        }
    }

    fn unknown(&self, tap: &str) -> Error {
        let shared =
            |name: &&Arc<str>| name.chars().zip(tap.chars()).take_while(|(a, b)| a == b).count();
        let nearest =
            self.names.iter().max_by_key(shared).map(|name| name.to_string()).unwrap_or_default();
        Error::UnknownTap { name: tap.into(), nearest }
    }
}
