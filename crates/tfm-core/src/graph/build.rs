//! The methods that add nodes: sources, primitive ops, fused ops.

use super::{Graph, Value};
use crate::fused::{
    Activate, ActivateOperands, Activation, Adam, AdamInPlace, AdamOperands, Attention,
    AttentionOperands, CrossEntropy, CrossEntropyOperands, Dropout, DropoutMask, DropoutOperands,
    Embedding, EmbeddingOperands, Fused, LayerNorm, LayerNormOperands, Linear, LinearOperands,
    Results, RmsNorm, RmsNormOperands, Softmax, SoftmaxOperands, SumOfSquares,
    SumOfSquaresOperands, TopLogProbabilities, TopLogProbabilitiesOperands,
};
use crate::op::{BinaryOp, Number, Op, ReduceOp, UnaryOp};
use crate::{DType, Shape};
use smallvec::SmallVec;

impl Graph {
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
        let same =
            |node: &super::Node| matches!(&node.op, Op::State { name: other } if **other == *name);
        if self.nodes.iter().any(same) {
            self.refuse("state", format!("`{name}` is declared twice"));
        }
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

    /// `number` in the shape and type of `value`.
    pub fn filled_like(&mut self, number: f64, value: Value) -> Value {
        let constant = self.constant_like(number, value);
        let shape = self.shape(value).clone();
        self.broadcast(constant, shape)
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

    /// `state` with row `ids[i]` replaced by `x[i]`, in place. The graph must not use `state`
    /// itself any more; the result takes its place. The ids are distinct.
    pub fn write_rows(&mut self, state: Value, x: Value, ids: Value) -> Value {
        self.add_node(Op::WriteRows, &[state, x, ids])
    }

    /// What takes the place of `old`: `old` written with the content `new`, if it is a state, else
    /// `new`. Of one shape with at least one axis.
    pub fn replace(&mut self, old: Value, new: Value) -> Value {
        if !self.is_whole_state(old) {
            return new;
        }
        let rows = self.shape(old).first().copied().unwrap_or(0);
        let all = self.iota(rows);
        self.write_rows(old, new, all)
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

    /// Adds a fused op of several results.
    pub fn fused_all(&mut self, op: impl Into<Fused>, inputs: &[Value]) -> SmallVec<[Value; 2]> {
        self.add_all(Op::Fused(op.into()), inputs)
    }

    /// [`Linear`] with bias alone, or without.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Value {
        let op = Linear { bias: bias.is_some(), ..Linear::default() };
        self.fused(op, &LinearOperands { x, weight, bias, residual: None }.list())
    }

    /// [`Activate`].
    pub fn activate(&mut self, activation: Activation, x: Value) -> Value {
        self.fused(Activate(activation), &ActivateOperands { x }.list())
    }

    /// [`LayerNorm`].
    pub fn layer_norm(&mut self, x: Value, weight: Value, bias: Value, epsilon: f64) -> Value {
        self.fused(LayerNorm { epsilon }, &LayerNormOperands { x, weight, bias }.list())
    }

    /// [`RmsNorm`].
    pub fn rms_norm(&mut self, x: Value, weight: Value, epsilon: f64) -> Value {
        self.fused(RmsNorm { epsilon }, &RmsNormOperands { x, weight }.list())
    }

    /// [`Softmax`].
    pub fn softmax(&mut self, x: Value) -> Value {
        self.fused(Softmax { log: false }, &SoftmaxOperands { x }.list())
    }

    /// [`Softmax`], its logarithm.
    pub fn log_softmax(&mut self, x: Value) -> Value {
        self.fused(Softmax { log: true }, &SoftmaxOperands { x }.list())
    }

    /// [`Embedding`]; `positions` are the positions and their table.
    pub fn embedding(
        &mut self,
        ids: Value,
        table: Value,
        scale: f64,
        positions: Option<(Value, Value)>,
    ) -> Value {
        let op = Embedding { scale, positions: positions.is_some(), ..Embedding::default() };
        let (positions, position_table) = positions.unzip();
        self.fused(op, &EmbeddingOperands { ids, table, positions, position_table }.list())
    }

    /// The context of [`Attention`].
    pub fn attention(&mut self, op: Attention, operands: AttentionOperands<Value>) -> Value {
        self.fused(op, &operands.list())
    }

    /// [`Dropout`] of `x`, with the random numbers of `key`, plus a residual if there is one.
    pub fn dropout(
        &mut self,
        mask: DropoutMask,
        x: Value,
        key: Value,
        residual: Option<Value>,
    ) -> Value {
        let op = Dropout { mask, residual: residual.is_some() };
        self.fused(op, &DropoutOperands { x, key, residual }.list())
    }

    /// [`CrossEntropy`] of each row.
    pub fn cross_entropy(&mut self, logits: Value, targets: Value, smoothing: f64) -> Value {
        self.fused(CrossEntropy { smoothing }, &CrossEntropyOperands { logits, targets }.list())
    }

    /// [`SumOfSquares`].
    pub fn sum_of_squares(&mut self, x: Value) -> Value {
        self.fused(SumOfSquares, &SumOfSquaresOperands { x }.list())
    }

    /// [`Adam`]: what has been changed.
    pub fn adam(
        &mut self,
        op: Adam,
        changed: AdamInPlace<Value>,
        read: AdamOperands<Value>,
    ) -> AdamInPlace<Value> {
        let outputs = self.fused_all(op, &changed.with(read));
        AdamInPlace::of(outputs.into_iter().chain([Value::NONE]))
    }

    /// [`TopLogProbabilities`]: log-probabilities and ids.
    pub fn top_log_probabilities(
        &mut self,
        logits: Value,
        bias: Value,
        k: usize,
    ) -> (Value, Value) {
        let operands = TopLogProbabilitiesOperands { logits, bias };
        let outputs = self.fused_all(TopLogProbabilities { k }, &operands.list());
        (outputs[0], outputs[1])
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
    round = Round, "The nearest integer, of two the even one.";
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
