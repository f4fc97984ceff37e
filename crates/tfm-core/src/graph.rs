//! The graph: what is to be computed, recorded node by node in an arena.

mod build;
mod equations;
mod renamed;
mod rules;

pub use equations::{Equations, Expr};
pub(crate) use renamed::Renamed;

use crate::fused::{FusedOp, Operand, Results};
use crate::op::Op;
use crate::{DType, Error, Result, Shape, infer};
use smallvec::SmallVec;
use std::sync::Arc;

/// A handle of a value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// What is returned once the graph holds an error.
    pub(crate) const NONE: Value = Value(u32::MAX);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The scope to return to.
#[derive(Debug)]
pub struct OuterScope(Option<Arc<str>>);

/// One op with its operands and results.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: SmallVec<[Value; 5]>,
    pub(crate) outputs: SmallVec<[Value; 2]>,
    pub(crate) scope: Arc<str>,
}

impl Node {
    /// Whether the node changes a state.
    pub(crate) fn writes(&self, graph: &Graph) -> bool {
        self.outputs[..self.op.in_place()].iter().any(|&output| graph.is_whole_state(output))
    }
}

/// What is known of a value.
#[derive(Debug, Clone)]
pub(crate) struct ValueInfo {
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) node: u32,
    /// The state, or the result of a write to it, in whose memory this value lies.
    pub(crate) state: Option<Value>,
}

/// A computation with concrete shapes.
///
/// Every method that adds a node checks shapes, types and axes at once. The first fault is kept and
/// reported by [`Graph::check`] and by compilation, with op, scope and shapes; what is added after
/// it is ignored. So code that builds a graph reads like the equations.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) outputs: Vec<Value>,
    /// In the order in which they were given; of equal names the last counts.
    pub(crate) labels: Vec<(Arc<str>, Value)>,
    scope: Option<Arc<str>>,
    superseded: Vec<Value>,
    error: Option<Error>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first fault found while nodes were added, if any.
    ///
    /// # Errors
    /// That fault.
    pub fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)?;
        let replaced = self.outputs.iter().find_map(|&output| self.is_replaced(output).err());
        replaced.map_or(Ok(()), |problem| Err(self.fault("output", problem)))
    }

    fn fault(&self, op: &str, problem: String) -> Error {
        Error::Node { op: op.into(), scope: self.scope().into(), problem }
    }

    /// Keeps a fault, if it is the first.
    pub(crate) fn refuse(&mut self, op: &str, problem: String) {
        if self.error.is_none() {
            self.error = Some(self.fault(op, problem));
        }
    }

    /// A value's extents; empty once the graph holds an error.
    pub fn shape(&self, value: Value) -> &Shape {
        static NOTHING: std::sync::LazyLock<Shape> = std::sync::LazyLock::new(Shape::default);
        self.values.get(value.index()).map_or(&NOTHING, |info| &info.shape)
    }

    /// A value's element type.
    pub fn dtype(&self, value: Value) -> DType {
        self.values.get(value.index()).map_or(DType::F32, |info| info.dtype)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    // ---- scopes, labels, outputs ----

    /// Runs `build` inside the scope `name`, which errors, labels and dumps then show.
    pub fn scoped<R>(&mut self, name: &str, build: impl FnOnce(&mut Graph) -> R) -> R {
        let outer = self.enter(name);
        let result = build(self);
        self.leave(outer);
        result
    }

    /// Enters the scope `name` until [`Graph::leave`] is called with what this returns.
    pub fn enter(&mut self, name: &str) -> OuterScope {
        let outer = self.scope.clone();
        self.scope = Some(match &outer {
            Some(path) if !path.is_empty() => format!("{path}.{name}").into(),
            _ => name.into(),
        });
        OuterScope(outer)
    }

    /// Returns to the scope before [`Graph::enter`].
    pub fn leave(&mut self, outer: OuterScope) {
        self.scope = outer.0;
    }

    /// The current scope's path, such as `decoder.layers.3`.
    pub fn scope(&self) -> &str {
        self.scope.as_deref().unwrap_or("")
    }

    pub(crate) fn set_scope(&mut self, scope: Arc<str>) {
        self.scope = Some(scope);
    }

    /// The current scope, to be returned to by [`Graph::leave`].
    pub(crate) fn outer_scope(&self) -> OuterScope {
        OuterScope(self.scope.clone())
    }

    /// Names a value inside the current scope, so that it can be tapped.
    pub fn label(&mut self, value: Value, label: &str) {
        if value.index() >= self.values.len() {
            return self.refuse("label", format!("{value:?} is not of this graph"));
        }
        let scope = self.scope();
        let name = if scope.is_empty() { label.to_string() } else { format!("{scope}.{label}") };
        self.labels.push((name.into(), value));
    }

    /// The labelled names, sorted.
    pub fn labels(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.labels.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Marks a value as a result of the graph. Results keep the order of these calls.
    pub fn output(&mut self, value: Value) {
        if value.index() >= self.values.len() {
            return self.refuse("output", format!("{value:?} is not of this graph"));
        }
        self.outputs.push(value);
    }

    /// The results.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    // ---- the arena ----

    /// Adds a node of one result.
    pub(crate) fn add_node(&mut self, op: Op, inputs: &[Value]) -> Value {
        self.add_all(op, inputs)[0]
    }

    /// Adds a node; its results. Two invalid handles once the graph holds an error.
    pub(crate) fn add_all(&mut self, op: Op, inputs: &[Value]) -> SmallVec<[Value; 2]> {
        if self.error.is_some() {
            return SmallVec::from_slice(&[Value::NONE, Value::NONE]);
        }
        if let Some(&foreign) = inputs.iter().find(|value| value.index() >= self.values.len()) {
            return self.push(op, &[], Err(format!("operand {foreign:?} is not of this graph")));
        }
        let operands: SmallVec<[Operand<'_>; 5]> = inputs
            .iter()
            .map(|&value| Operand { shape: self.shape(value), dtype: self.dtype(value) })
            .collect();
        let results = match &op {
            Op::Fused(fused) => fused.infer(&operands),
            primitive => infer::infer(primitive, &operands),
        };
        drop(operands);
        let results = results.and_then(|results| self.rules(&op, inputs).map(|()| results));
        let in_place = op.in_place();
        let outputs = self.push(op, inputs, results);
        let written = inputs.iter().take(in_place).copied();
        let states: SmallVec<[Value; 3]> =
            written.filter(|&value| self.is_whole_state(value)).collect();
        self.superseded.extend(states);
        outputs
    }

    /// Adds a copy of another graph's node on operands of this graph. They have the shapes of the
    /// old operands, so nothing is checked again.
    pub(crate) fn add_copy(
        &mut self,
        node: &Node,
        old: &Graph,
        inputs: &[Value],
    ) -> SmallVec<[Value; 2]> {
        self.set_scope(node.scope.clone());
        let result = |&output: &Value| (old.shape(output).clone(), old.dtype(output));
        self.push(node.op.clone(), inputs, Ok(node.outputs.iter().map(result).collect()))
    }

    /// Adds a node of this graph once more, on other operands of the same shapes.
    pub(crate) fn add_again(&mut self, node: &Node, inputs: &[Value]) -> SmallVec<[Value; 2]> {
        self.set_scope(node.scope.clone());
        let result = |&output: &Value| (self.shape(output).clone(), self.dtype(output));
        let results = node.outputs.iter().map(result).collect();
        self.push(node.op.clone(), inputs, Ok(results))
    }

    /// Copies all nodes of another graph but those that have been `renamed` already. Faults of that
    /// graph become this graph's.
    pub(crate) fn include(&mut self, other: &Graph, renamed: &mut Renamed) {
        if let Err(error) = other.check() {
            self.error.get_or_insert(error);
        }
        let (scope, outer) = (self.scope.clone().unwrap_or_else(|| "".into()), self.outer_scope());
        for node in &other.nodes {
            if self.error.is_some() {
                break;
            }
            if renamed.has(node) {
                continue;
            }
            let outputs = self.add_copy(node, other, &renamed.operands(node));
            self.nodes.last_mut().expect("a node was added").scope = scope.clone();
            renamed.rename(&node.outputs, outputs);
        }
        self.leave(outer);
    }

    /// Adds a node with these results, or keeps its fault.
    fn push(
        &mut self,
        op: Op,
        inputs: &[Value],
        results: Result<Results, String>,
    ) -> SmallVec<[Value; 2]> {
        let none = SmallVec::from_slice(&[Value::NONE, Value::NONE]);
        if self.error.is_some() {
            return none;
        }
        let results = results.and_then(|results| {
            match results.iter().find(|(shape, _)| shape.checked_elements().is_none()) {
                Some((shape, _)) => Err(format!("the result {shape} has too many elements")),
                None => Ok(results),
            }
        });
        match results {
            Err(problem) => {
                self.refuse(&op.name(), problem);
                none
            }
            Ok(results) => {
                let node = self.nodes.len() as u32;
                let first = self.values.len();
                let outputs: SmallVec<[Value; 2]> =
                    (first..first + results.len()).map(|index| Value(index as u32)).collect();
                let state = |number: usize| match &op {
                    Op::State { .. } => Some(outputs[0]),
                    op if op.is_movement() => self.values[inputs[0].index()].state,
                    op => (number < op.in_place() && self.is_whole_state(inputs[number]))
                        .then(|| outputs[number]),
                };
                let states: SmallVec<[Option<Value>; 3]> = (0..outputs.len()).map(state).collect();
                let info = |((shape, dtype), state)| ValueInfo { shape, dtype, node, state };
                self.values.extend(results.into_iter().zip(states).map(info));
                let scope = self.scope.clone().unwrap_or_else(|| "".into());
                let inputs = SmallVec::from_slice(inputs);
                self.nodes.push(Node { op, inputs, outputs: outputs.clone(), scope });
                outputs
            }
        }
    }

    /// Whether the value is a state or the result of a write to one, and not a view of it.
    pub(crate) fn is_whole_state(&self, value: Value) -> bool {
        self.values.get(value.index()).is_some_and(|info| info.state == Some(value))
    }

    pub(crate) fn node_of(&self, value: Value) -> &Node {
        &self.nodes[self.values[value.index()].node as usize]
    }
}
