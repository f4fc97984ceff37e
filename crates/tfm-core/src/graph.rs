//! The graph: what is to be computed, recorded node by node in an arena.

use crate::fused::{
    Activate, Activation, Attention, Embedding, Fused, FusedOp, LayerNorm, Linear, Operand,
    Results, RowTableAttention, Softmax, TopLogProbabilities,
};
use crate::op::{BinaryOp, Number, Op, ReduceOp, UnaryOp};
use crate::{DType, Error, Result, Shape, infer};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// A handle of a value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// What is returned once the graph holds an error.
    const NONE: Value = Value(u32::MAX);

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

/// What is known of a value.
#[derive(Debug, Clone)]
pub(crate) struct ValueInfo {
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) node: u32,
}

/// A computation with concrete shapes.
///
/// Every method that adds a node checks shapes, types and axes at once. The first fault is kept and
/// reported by [`Graph::check`] and by compilation, with op, scope and shapes; what is added after it is
/// ignored. So code that builds a graph reads like the equations.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) outputs: Vec<Value>,
    pub(crate) labels: HashMap<String, Value>,
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
        self.error.clone().map_or(Ok(()), Err)
    }

    /// A value's extents. Empty once the graph holds an error.
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

    /// Names a value inside the current scope, so that it can be tapped.
    pub fn label(&mut self, value: Value, label: &str) {
        let scope = self.scope();
        let name = if scope.is_empty() { label.to_string() } else { format!("{scope}.{label}") };
        self.labels.insert(name, value);
    }

    /// The labelled names, sorted.
    pub fn labels(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.labels.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Marks a value as a result of the graph. Results keep the order of these calls.
    pub fn output(&mut self, value: Value) {
        self.outputs.push(value);
    }

    /// The results.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    // ---- sources ----

    /// Data given at each run.
    pub fn input(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Value {
        self.source(Op::Input { name: name.into(), bound: None }, dtype, shape.into())
    }

    /// Integers given at each run, each at least 0 and below `bound`; the session checks them.
    pub fn indices(&mut self, name: &str, bound: usize, shape: impl Into<Shape>) -> Value {
        self.source(Op::Input { name: name.into(), bound: Some(bound) }, DType::I32, shape.into())
    }

    /// A tensor of the model.
    pub fn parameter(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Value {
        self.source(Op::Parameter { name: name.into() }, dtype, shape.into())
    }

    /// Device memory that the run is given and may change.
    pub fn state(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Value {
        self.source(Op::State { name: name.into() }, dtype, shape.into())
    }

    /// A scalar.
    pub fn constant(&mut self, number: f64, dtype: DType) -> Value {
        self.source(Op::Constant(Number(number)), dtype, Shape::default())
    }

    /// A scalar of the type of `value`.
    pub fn constant_like(&mut self, number: f64, value: Value) -> Value {
        self.constant(number, self.dtype(value))
    }

    /// `[0, 1, …, n−1]` in `I32`.
    pub fn iota(&mut self, n: usize) -> Value {
        self.source(Op::Iota, DType::I32, [n].into())
    }

    fn source(&mut self, op: Op, dtype: DType, shape: Shape) -> Value {
        self.push(op, &[], Ok(Results::from_iter([(shape, dtype)])))[0]
    }

    // ---- element-wise ----

    /// `op(x)`.
    pub fn unary(&mut self, op: UnaryOp, x: Value) -> Value {
        self.add_node(Op::Unary(op), &[x])
    }

    /// `op(a, b)`, the operands broadcast to one shape.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        let (a, b) = match self.shape(a).broadcast(self.shape(b)) {
            Some(shape) => (self.broadcast(a, shape.clone()), self.broadcast(b, shape)),
            None => (a, b), // inference reports it
        };
        self.add_node(Op::Binary(op), &[a, b])
    }

    /// `condition ≠ 0 ? a : b`, the operands broadcast to one shape.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let all = self.shape(a).broadcast(self.shape(b));
        let all = all.and_then(|shape| shape.broadcast(self.shape(condition)));
        let operands = match all {
            Some(shape) => [condition, a, b].map(|value| self.broadcast(value, shape.clone())),
            None => [condition, a, b],
        };
        self.add_node(Op::Select, &operands)
    }

    /// The value in another element type.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Value {
        if self.dtype(x) == dtype { x } else { self.add_node(Op::Cast(dtype), &[x]) }
    }

    /// Uniform numbers in [0, 1); `key [3]` is seed (low, high) and step; see [`crate::philox`].
    pub fn random(&mut self, key: Value, stream: u32, shape: impl Into<Shape>) -> Value {
        self.add_node(Op::Random { stream, shape: shape.into() }, &[key])
    }

    /// `factor·x`.
    pub fn scale(&mut self, x: Value, factor: f64) -> Value {
        if factor == 1.0 {
            return x;
        }
        let factor = self.constant_like(factor, x);
        self.mul(x, factor)
    }

    /// `x + amount`.
    pub fn shift(&mut self, x: Value, amount: f64) -> Value {
        let amount = self.constant_like(amount, x);
        self.add(x, amount)
    }

    /// `1 − x`, for truth values.
    pub fn not(&mut self, x: Value) -> Value {
        let one = self.constant_like(1.0, x);
        self.sub(one, x)
    }

    // ---- reductions, products, indices ----

    /// Reduces `axis` to extent 1.
    pub fn reduce(&mut self, op: ReduceOp, x: Value, axis: usize) -> Value {
        self.add_node(Op::Reduce { op, axis }, &[x])
    }

    /// `[…, m, k] × […, k, n]`; equal outer axes.
    pub fn matmul(&mut self, a: Value, b: Value) -> Value {
        self.add_node(Op::MatMul, &[a, b])
    }

    /// `table[ids]`, row by row.
    pub fn gather(&mut self, table: Value, ids: Value) -> Value {
        self.add_node(Op::Gather, &[table, ids])
    }

    /// `rows` rows, row r the sum of `x[i]` over all i with `ids[i] = r`.
    pub fn scatter_add(&mut self, x: Value, ids: Value, rows: usize) -> Value {
        self.add_node(Op::ScatterAdd { rows }, &[x, ids])
    }

    /// `state` with row `ids[i]` replaced by `x[i]`, in place: `state` itself must not be used any more,
    /// what is returned takes its place. The ids are distinct.
    pub fn write_rows(&mut self, state: Value, x: Value, ids: Value) -> Value {
        let written = self.add_node(Op::WriteRows, &[state, x, ids]);
        self.superseded.push(state);
        written
    }

    /// The `k` largest of each row of `x [n, m]` and their indices.
    pub fn top_k(&mut self, x: Value, k: usize) -> (Value, Value) {
        let outputs = self.add_all(Op::TopK { k }, &[x]);
        (outputs[0], outputs[1])
    }

    // ---- movement ----

    /// The operands one after the other along `axis`.
    pub fn concat(&mut self, axis: usize, operands: &[Value]) -> Value {
        if let [single] = operands {
            return *single;
        }
        self.add_node(Op::Concat { axis }, operands)
    }

    /// The same elements under another shape.
    pub fn reshape(&mut self, x: Value, shape: impl Into<Shape>) -> Value {
        let shape = shape.into();
        if *self.shape(x) == shape { x } else { self.add_node(Op::Reshape(shape), &[x]) }
    }

    /// The axes reordered: axis `a` of the result is axis `order[a]` of `x`.
    pub fn permute(&mut self, x: Value, order: &[usize]) -> Value {
        self.add_node(Op::Permute(order.to_vec()), &[x])
    }

    /// The elements `start .. start + length` of `axis`.
    pub fn slice(&mut self, x: Value, axis: usize, start: usize, length: usize) -> Value {
        self.add_node(Op::Slice { axis, start, length }, &[x])
    }

    /// `x` repeated to `shape`, aligned at the last axis.
    pub fn broadcast(&mut self, x: Value, shape: impl Into<Shape>) -> Value {
        let shape = shape.into();
        if *self.shape(x) == shape { x } else { self.add_node(Op::Broadcast(shape), &[x]) }
    }

    // ---- fused ops ----

    /// Adds a fused op of one result.
    pub fn fused(&mut self, op: impl Into<Fused>, inputs: &[Value]) -> Value {
        self.add_node(Op::Fused(op.into()), inputs)
    }

    /// [`Linear`] with bias alone, or without.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Value {
        let op = Linear { bias: bias.is_some(), activation: None, residual: false };
        let inputs: SmallVec<[Value; 3]> = [x, weight].into_iter().chain(bias).collect();
        self.fused(op, &inputs)
    }

    /// [`Activate`].
    pub fn activate(&mut self, activation: Activation, x: Value) -> Value {
        self.fused(Activate(activation), &[x])
    }

    /// [`LayerNorm`].
    pub fn layer_norm(&mut self, x: Value, weight: Value, bias: Value, epsilon: f64) -> Value {
        self.fused(LayerNorm { epsilon }, &[x, weight, bias])
    }

    /// [`Softmax`].
    pub fn softmax(&mut self, x: Value) -> Value {
        self.fused(Softmax { log: false }, &[x])
    }

    /// [`Softmax`], its logarithm.
    pub fn log_softmax(&mut self, x: Value) -> Value {
        self.fused(Softmax { log: true }, &[x])
    }

    /// [`Embedding`]; `positions` are the positions and their table.
    pub fn embedding(
        &mut self,
        ids: Value,
        table: Value,
        scale: f64,
        positions: Option<(Value, Value)>,
    ) -> Value {
        let op = Embedding { scale, positions: positions.is_some() };
        let positions = positions.into_iter().flat_map(|(positions, table)| [positions, table]);
        let inputs: SmallVec<[Value; 4]> = [ids, table].into_iter().chain(positions).collect();
        self.fused(op, &inputs)
    }

    /// [`Attention`]; `inputs` are query, key, value, query offsets, key ranges.
    pub fn attention(&mut self, op: Attention, inputs: [Value; 5]) -> Value {
        self.fused(op, &inputs)
    }

    /// [`RowTableAttention`]; `inputs` are query, key pool, value pool, row table, lengths.
    pub fn row_table_attention(&mut self, op: RowTableAttention, inputs: [Value; 5]) -> Value {
        self.fused(op, &inputs)
    }

    /// [`TopLogProbabilities`]: log-probabilities and ids.
    pub fn top_log_probabilities(
        &mut self,
        logits: Value,
        bias: Value,
        k: usize,
    ) -> (Value, Value) {
        let outputs = self.add_all(Op::Fused(TopLogProbabilities { k }.into()), &[logits, bias]);
        (outputs[0], outputs[1])
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
        if let Some(old) = inputs.iter().find(|value| self.superseded.contains(value)) {
            let state = self.source_name(*old);
            let problem =
                format!("state `{state}` is used after write_rows replaced it; use its result");
            return self.push(op, &[], Err(problem));
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
        self.push(op, inputs, results)
    }

    /// Adds a copy of another graph's node on operands of this one.
    pub(crate) fn add_copy(
        &mut self,
        node: &Node,
        old: &Graph,
        inputs: &[Value],
    ) -> SmallVec<[Value; 2]> {
        self.set_scope(node.scope.clone());
        if !inputs.is_empty() {
            return self.add_all(node.op.clone(), inputs);
        }
        let result = |&output: &Value| (old.shape(output).clone(), old.dtype(output));
        self.push(node.op.clone(), &[], Ok(node.outputs.iter().map(result).collect()))
    }

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
        let scope = self.scope.clone().unwrap_or_else(|| "".into());
        match results {
            Err(problem) => {
                self.error = Some(Error::Node { op: op.name(), scope: scope.to_string(), problem });
                none
            }
            Ok(results) => {
                let node = self.nodes.len() as u32;
                let outputs: SmallVec<[Value; 2]> =
                    (0..results.len()).map(|i| Value((self.values.len() + i) as u32)).collect();
                self.values.extend(results.into_iter().map(|(shape, dtype)| ValueInfo {
                    shape,
                    dtype,
                    node,
                }));
                self.nodes.push(Node {
                    op,
                    inputs: SmallVec::from_slice(inputs),
                    outputs: outputs.clone(),
                    scope,
                });
                outputs
            }
        }
    }

    pub(crate) fn node_of(&self, value: Value) -> &Node {
        &self.nodes[self.values[value.index()].node as usize]
    }

    fn source_name(&self, value: Value) -> String {
        match &self.node_of(value).op {
            Op::State { name } | Op::Parameter { name } | Op::Input { name, .. } => name.clone(),
            op => op.name(),
        }
    }
}

macro_rules! element_wise {
    ($($name:ident = $op:ident, $equation:literal;)*) => {
        impl Graph {
            $(#[doc = $equation]
            pub fn $name(&mut self, x: Value) -> Value {
                self.unary(UnaryOp::$op, x)
            })*
        }
    };
    (binary $($name:ident = $op:ident, $equation:literal;)*) => {
        impl Graph {
            $(#[doc = $equation]
            pub fn $name(&mut self, a: Value, b: Value) -> Value {
                self.binary(BinaryOp::$op, a, b)
            })*
        }
    };
}

element_wise!(
    neg = Neg, "`−x`.";
    abs = Abs, "`|x|`.";
    exp = Exp, "`eˣ`.";
    log = Log, "`ln x`.";
    sqrt = Sqrt, "`√x`.";
    reciprocal = Reciprocal, "`1/x`.";
    sin = Sin, "`sin x`.";
    cos = Cos, "`cos x`.";
    tanh = Tanh, "`tanh x`.";
    erf = Erf, "The error function of x.";
);
element_wise!(binary
    add = Add, "`a + b`, broadcast.";
    sub = Sub, "`a − b`, broadcast.";
    mul = Mul, "`a·b`, broadcast.";
    div = Div, "`a/b`, broadcast.";
    max = Max, "The larger, broadcast.";
    min = Min, "The smaller, broadcast.";
    less = Less, "1 where a < b, else 0, broadcast.";
    equal = Equal, "1 where a = b, else 0, broadcast.";
);
