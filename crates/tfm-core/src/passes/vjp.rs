//! The gradient rules of the primitive ops: vector-Jacobian products. Fused ops bring their own, or are
//! differentiated through their decomposition.

use crate::fused::{Differentiated, Fused, FusedOp, Gradients, Values};
use crate::graph::Renamed;
use crate::op::{BinaryOp, Op, ReduceOp, UnaryOp};
use crate::{Graph, Shape, Value};
use smallvec::SmallVec;

/// The gradients of a node's operands.
pub(super) fn vjp(graph: &mut Graph, op: &Op, node: &Differentiated<'_>) -> Gradients {
    if let Op::Fused(op) = op {
        return op.vjp(graph, node).unwrap_or_else(|| through_decomposition(graph, op, node));
    }
    // Of the primitives only top-k has a second result, which is of integers.
    let Some(dy) = node.gradients[0] else {
        return node.inputs.iter().map(|_| None).collect();
    };
    let (x, y) = (node.inputs.first().copied(), node.outputs[0]);
    let one = |gradient: Value| Gradients::from_iter([Some(gradient)]);
    match (op, x) {
        (Op::Unary(op), Some(x)) => one(unary(graph, *op, x, y, dy)),
        (Op::Binary(op), Some(a)) => binary(graph, *op, [a, node.inputs[1]], y, dy),
        (Op::Select, Some(condition)) => {
            let zero = graph.constant_like(0.0, dy);
            let [a, b] = [(dy, zero), (zero, dy)].map(|(a, b)| graph.select(condition, a, b));
            Gradients::from_iter([None, Some(a), Some(b)])
        }
        (Op::Cast(_), Some(x)) => one(graph.cast(dy, graph.dtype(x))),
        (Op::Reduce { op, axis }, Some(x)) => one(reduce(graph, *op, *axis, x, y, dy)),
        (Op::MatMul, Some(a)) => matmul(graph, a, node, dy),
        (Op::Gather, Some(table)) => one(gather(graph, table, node.inputs[1], dy)).and_none(),
        (Op::ScatterAdd { .. }, _) => one(graph.gather(dy, node.inputs[1])).and_none(),
        (Op::WriteRows, Some(state)) => write_rows(graph, state, node.inputs[2], dy),
        (Op::TopK { .. }, Some(x)) => one(top_k(graph, x, node.outputs[1], dy)),
        (Op::Concat { axis }, _) => {
            let mut start = 0;
            let part = |&input: &Value| {
                let length = graph.shape(input)[*axis];
                start += length;
                Some(graph.slice(dy, *axis, start - length, length))
            };
            node.inputs.iter().map(part).collect()
        }
        (Op::Slice { axis, start, .. }, Some(x)) => one(slice(graph, x, *axis, *start, dy)),
        (Op::Reshape(_), Some(x)) => {
            let shape = graph.shape(x).clone();
            one(graph.reshape(dy, shape))
        }
        (Op::Permute(order), _) => {
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(axis, &from)| inverse[from] = axis);
            one(graph.permute(dy, &inverse))
        }
        (Op::Broadcast(_), Some(x)) => {
            let shape = graph.shape(x).clone();
            one(sum_to(graph, dy, &shape))
        }
        (Op::Contiguous, _) => one(dy),
        // Sources have no operands; random numbers do not depend on their key by floats.
        _ => node.inputs.iter().map(|_| None).collect(),
    }
}

trait AndNone {
    fn and_none(self) -> Self;
}
impl AndNone for Gradients {
    /// The gradients, and none for an operand of integers.
    fn and_none(mut self) -> Self {
        self.push(None);
        self
    }
}

fn unary(g: &mut Graph, op: UnaryOp, x: Value, y: Value, dy: Value) -> Value {
    match op {
        UnaryOp::Neg => g.neg(dy),
        UnaryOp::Abs => {
            let zero = g.constant_like(0.0, x);
            let (negative, positive) = (g.less(x, zero), g.less(zero, x));
            let sign = g.sub(positive, negative);
            g.mul(dy, sign)
        }
        UnaryOp::Exp => g.mul(dy, y),
        UnaryOp::Log => g.div(dy, x),
        UnaryOp::Sqrt => {
            let half = g.scale(dy, 0.5);
            g.div(half, y)
        }
        UnaryOp::Reciprocal => {
            let square = g.mul(y, y);
            let product = g.mul(dy, square);
            g.neg(product)
        }
        UnaryOp::Sin => {
            let cos = g.cos(x);
            g.mul(dy, cos)
        }
        UnaryOp::Cos => {
            let sin = g.sin(x);
            let product = g.mul(dy, sin);
            g.neg(product)
        }
        UnaryOp::Tanh => {
            let square = g.mul(y, y);
            let slope = g.not(square);
            g.mul(dy, slope)
        }
        UnaryOp::Erf => {
            let square = g.mul(x, x);
            let negated = g.neg(square);
            let bell = g.exp(negated);
            let slope = g.scale(bell, std::f64::consts::FRAC_2_SQRT_PI);
            g.mul(dy, slope)
        }
        UnaryOp::Round => g.filled_like(0.0, dy),
    }
}

/// Where a maximum or minimum is of equals, the second operand counts: a rectifier has the slope 0 at 0.
fn binary(g: &mut Graph, op: BinaryOp, [a, b]: [Value; 2], y: Value, dy: Value) -> Gradients {
    let [a_gradient, b_gradient] = match op {
        BinaryOp::Add => [dy, dy],
        BinaryOp::Sub => [dy, g.neg(dy)],
        BinaryOp::Mul => [g.mul(dy, b), g.mul(dy, a)],
        BinaryOp::Div => {
            let quotient = g.div(dy, b);
            let product = g.mul(quotient, y);
            [quotient, g.neg(product)]
        }
        BinaryOp::Max | BinaryOp::Min => {
            let first = if op == BinaryOp::Max { g.less(b, a) } else { g.less(a, b) };
            let zero = g.constant_like(0.0, dy);
            [g.select(first, dy, zero), g.select(first, zero, dy)]
        }
        BinaryOp::Less | BinaryOp::Equal => return Gradients::from_iter([None, None]),
    };
    Gradients::from_iter([Some(a_gradient), Some(b_gradient)])
}

/// A sum hands its gradient to every term; a maximum to the greatest, evenly where several are.
fn reduce(g: &mut Graph, op: ReduceOp, axis: usize, x: Value, y: Value, dy: Value) -> Value {
    let shape = g.shape(x).clone();
    match op {
        ReduceOp::Sum => g.broadcast(dy, shape),
        ReduceOp::Max => {
            let greatest = g.equal(x, y);
            let count = g.reduce(ReduceOp::Sum, greatest, axis);
            let part = g.div(dy, count);
            let zero = g.constant_like(0.0, dy);
            g.select(greatest, part, zero)
        }
    }
}

/// `dA = dY·Bᵀ`, `dB = Aᵀ·dY`.
fn matmul(g: &mut Graph, a: Value, node: &Differentiated<'_>, dy: Value) -> Gradients {
    let mut transposed: Vec<usize> = (0..g.shape(a).len()).collect();
    let rank = transposed.len();
    transposed.swap(rank - 2, rank - 1);
    let a_gradient = node.wanted[0].then(|| {
        let b = g.permute(node.inputs[1], &transposed);
        g.matmul(dy, b)
    });
    let b_gradient = node.wanted[1].then(|| {
        let a = g.permute(a, &transposed);
        g.matmul(a, dy)
    });
    Gradients::from_iter([a_gradient, b_gradient])
}

fn gather(g: &mut Graph, table: Value, ids: Value, dy: Value) -> Value {
    let (shape, picked) = (g.shape(table).clone(), g.shape(ids).elements());
    let ids = g.reshape(ids, [picked]);
    let dy = g.reshape(dy, shape.with_extent(0, picked));
    g.scatter_add(dy, ids, shape[0])
}

/// Rows that were replaced have no say any more; the others are as they were.
fn write_rows(g: &mut Graph, state: Value, ids: Value, dy: Value) -> Gradients {
    let (rows, rank) = (g.shape(state)[0], g.shape(state).len());
    let source = g.gather(dy, ids);
    let one = g.constant_like(1.0, dy);
    let count = g.shape(ids)[0];
    let ones = g.broadcast(one, [count]);
    let written = g.scatter_add(ones, ids, rows);
    let column: Shape = (0..rank).map(|axis| if axis == 0 { rows } else { 1 }).collect();
    let written = g.reshape(written, column);
    let zero = g.constant_like(0.0, dy);
    let kept = g.select(written, zero, dy);
    Gradients::from_iter([Some(kept), Some(source), None])
}

fn top_k(g: &mut Graph, x: Value, ids: Value, dy: Value) -> Value {
    let (n, m, k) = (g.shape(x)[0], g.shape(x)[1], g.shape(ids)[1]);
    let rows = g.iota(n);
    let width = g.constant_like(m as f64, rows);
    let starts = g.mul(rows, width);
    let starts = g.reshape(starts, [n, 1]);
    let places = g.add(starts, ids);
    let places = g.reshape(places, [n * k]);
    let dy = g.reshape(dy, [n * k]);
    let flat = g.scatter_add(dy, places, n * m);
    g.reshape(flat, [n, m])
}

/// The gradient with zeros before and after it along the axis.
fn slice(g: &mut Graph, x: Value, axis: usize, start: usize, dy: Value) -> Value {
    let shape = g.shape(x).clone();
    let length = g.shape(dy)[axis];
    let mut parts: SmallVec<[Value; 3]> = SmallVec::new();
    let zeros = |g: &mut Graph, extent: usize| {
        let zero = g.constant_like(0.0, dy);
        g.broadcast(zero, shape.with_extent(axis, extent))
    };
    if start > 0 {
        parts.push(zeros(g, start));
    }
    parts.push(dy);
    if start + length < shape[axis] {
        parts.push(zeros(g, shape[axis] - start - length));
    }
    g.concat(axis, &parts)
}

/// The sum over all axes that a broadcast from `shape` has repeated.
pub(crate) fn sum_to(g: &mut Graph, mut x: Value, shape: &Shape) -> Value {
    let repeated = g.shape(x).clone();
    let new_axes = repeated.len() - shape.len();
    for (axis, &extent) in repeated.iter().enumerate() {
        let own = axis.checked_sub(new_axes).map_or(1, |axis| shape[axis]);
        if own == 1 && extent != 1 {
            x = g.reduce(ReduceOp::Sum, x, axis);
        }
    }
    g.reshape(x, shape.clone())
}

/// Differentiates an op's decomposition, on placeholders, and takes the result into the graph.
fn through_decomposition(graph: &mut Graph, op: &Fused, node: &Differentiated<'_>) -> Gradients {
    let mut inside = Graph::new();
    let placeholder = |inside: &mut Graph, outer: Value| {
        inside.input("operand", graph.dtype(outer), graph.shape(outer).clone())
    };
    let inputs: SmallVec<[Value; 5]> =
        node.inputs.iter().map(|&input| placeholder(&mut inside, input)).collect();
    let given = node.gradients.iter().copied().enumerate();
    let given: SmallVec<[(usize, Value); 2]> =
        given.filter_map(|(number, gradient)| Some((number, gradient?))).collect();
    let seeds: SmallVec<[Value; 2]> =
        given.iter().map(|&(_, gradient)| placeholder(&mut inside, gradient)).collect();
    let outputs: Values = op.decompose(&mut inside, &inputs);
    let seeded: SmallVec<[(Value, Value); 2]> =
        given.iter().zip(&seeds).map(|(&(number, _), &seed)| (outputs[number], seed)).collect();
    let wanted: SmallVec<[Value; 5]> =
        inputs.iter().zip(node.wanted).filter(|(_, wanted)| **wanted).map(|(x, _)| *x).collect();
    let mut gradients = inside.differentiate(&seeded, &wanted, &[]).into_iter();
    let mut renamed = Renamed::none_of(&inside);
    renamed.rename(&inputs, node.inputs.iter().copied());
    renamed.rename(&seeds, given.iter().map(|&(_, gradient)| gradient));
    graph.include(&inside, &mut renamed);
    let mut next = || gradients.next().flatten().and_then(|value: Value| renamed.get(value));
    node.wanted.iter().map(|wanted| if *wanted { next() } else { None }).collect()
}
