//! The gradient rules of the primitive ops: vector-Jacobian products. Fused ops bring their own, or
//! are differentiated through their decomposition.

use crate::fused::{Differentiated, Fused, FusedOp, Gradients, List, Values};
use crate::graph::Renamed;
use crate::op::{BinaryOp, Op, ReduceOp, UnaryOp};
use crate::{DType, Equations, Expr, Graph, Shape, Value};
use smallvec::SmallVec;
use std::f64::consts::FRAC_2_SQRT_PI;

/// The gradients of a node's operands.
pub(super) fn vjp(graph: &mut Graph, op: &Op, node: &Differentiated<'_>) -> Gradients {
    if let Op::Fused(op) = op {
        return op.vjp(graph, node).unwrap_or_else(|| through_decomposition(graph, op, node));
    }
    // Of the primitives only top-k has a second result, which is of integers.
    let Some(dy) = node.gradients[0] else {
        return node.inputs.iter().map(|_| None).collect();
    };
    let g = graph.equations();
    let dy = g.of(dy);
    let inputs: List<Expr<'_>> = node.inputs.iter().map(|&input| g.of(input)).collect();
    let outputs: List<Expr<'_>> = node.outputs.iter().map(|&output| g.of(output)).collect();
    let gradients = primitive(&g, op, &inputs, &outputs, node.wanted, dy);
    gradients.into_iter().map(|gradient| gradient.map(Value::from)).collect()
}

fn primitive<'g>(
    g: &'g Equations<'_>,
    op: &Op,
    inputs: &[Expr<'g>],
    outputs: &[Expr<'g>],
    wanted: &[bool],
    dy: Expr<'g>,
) -> List<Option<Expr<'g>>> {
    let y = outputs[0];
    let one = |gradient| List::from_slice(&[Some(gradient)]);
    match (op, inputs) {
        (Op::Unary(op), &[x]) => one(unary(*op, x, y, dy)),
        (Op::Binary(op), &[a, b]) => List::from_slice(&binary(*op, [a, b], y, dy)),
        (Op::Select, &[condition, ..]) => {
            let zero = dy.constant(0.0);
            let [a, b] = [(dy, zero), (zero, dy)].map(|(a, b)| condition.select(a, b));
            List::from_slice(&[None, Some(a), Some(b)])
        }
        (Op::Cast(_), &[x]) => one(dy.cast(x.dtype())),
        (Op::Reduce { op, axis }, &[x]) => one(reduce(*op, *axis, x, y, dy)),
        (Op::MatMul, &[a, b]) => List::from_slice(&matmul([a, b], wanted, dy)),
        // Operands of integers have no gradient.
        (Op::Gather, &[table, ids]) => List::from_slice(&[Some(gather(table, ids, dy)), None]),
        (Op::ScatterAdd { .. }, &[_, ids]) => List::from_slice(&[Some(dy.gather(ids)), None]),
        (Op::WriteRows, &[state, _, ids]) => {
            let [kept, source] = write_rows(state, ids, dy);
            List::from_slice(&[Some(kept), Some(source), None])
        }
        (Op::TopK { .. }, &[x]) => one(top_k(g, x, outputs[1], dy)),
        (Op::Concat { axis }, _) => {
            let mut start = 0;
            let part = |input: &Expr<'g>| {
                let length = input.shape()[*axis];
                start += length;
                Some(dy.slice(*axis, start - length, length))
            };
            inputs.iter().map(part).collect()
        }
        (Op::Slice { axis, start, .. }, &[x]) => one(slice(x, *axis, *start, dy)),
        (Op::Reshape(_), &[x]) => one(dy.reshape(x.shape())),
        (Op::Permute(order), _) => {
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(axis, &from)| inverse[from] = axis);
            one(dy.permute(&inverse))
        }
        (Op::Broadcast(_), &[x]) => one(dy.sum_to(&x.shape())),
        (Op::Contiguous, _) => one(dy),
        // Sources have no operands; the key of random numbers holds integers.
        _ => inputs.iter().map(|_| None).collect(),
    }
}

fn unary<'g>(op: UnaryOp, x: Expr<'g>, y: Expr<'g>, dy: Expr<'g>) -> Expr<'g> {
    match op {
        UnaryOp::Neg => -dy,
        UnaryOp::Abs => {
            let zero = x.constant(0.0);
            let (negative, positive) = (x.less(zero), zero.less(x));
            dy * (positive - negative)
        }
        UnaryOp::Exp => dy * y,
        UnaryOp::Log => dy / x,
        UnaryOp::Sqrt => dy * 0.5 / y,
        UnaryOp::Reciprocal => -(dy * (y * y)),
        UnaryOp::Sin => dy * x.cos(),
        UnaryOp::Cos => -(dy * x.sin()),
        UnaryOp::Tanh => dy * (1.0 - y * y),
        UnaryOp::Erf => dy * ((-(x * x)).exp() * FRAC_2_SQRT_PI),
        UnaryOp::Round => dy.constant(0.0).broadcast(dy.shape()),
    }
}

/// Of two equal operands, a maximum or minimum takes the second: a rectifier has the slope 0 at 0.
fn binary<'g>(
    op: BinaryOp,
    [a, b]: [Expr<'g>; 2],
    y: Expr<'g>,
    dy: Expr<'g>,
) -> [Option<Expr<'g>>; 2] {
    let gradients = match op {
        BinaryOp::Add => [dy, dy],
        BinaryOp::Sub => [dy, -dy],
        BinaryOp::Mul => [dy * b, dy * a],
        BinaryOp::Div => {
            let quotient = dy / b;
            [quotient, -(quotient * y)]
        }
        BinaryOp::Max | BinaryOp::Min => {
            let first = if op == BinaryOp::Max { b.less(a) } else { a.less(b) };
            let zero = dy.constant(0.0);
            [first.select(dy, zero), first.select(zero, dy)]
        }
        BinaryOp::Less | BinaryOp::Equal => return [None, None],
    };
    gradients.map(Some)
}

/// A sum hands its gradient to every term; a maximum hands it to the greatest, in equal shares
/// where several are greatest.
fn reduce<'g>(op: ReduceOp, axis: usize, x: Expr<'g>, y: Expr<'g>, dy: Expr<'g>) -> Expr<'g> {
    match op {
        ReduceOp::Sum => dy.broadcast(x.shape()),
        ReduceOp::Max => {
            let greatest = x.equal(y);
            let part = dy / greatest.sum(axis);
            greatest.select(part, dy.constant(0.0))
        }
    }
}

/// `dA = dY·Bᵀ`, `dB = Aᵀ·dY`.
fn matmul<'g>([a, b]: [Expr<'g>; 2], wanted: &[bool], dy: Expr<'g>) -> [Option<Expr<'g>>; 2] {
    let mut transposed: Vec<usize> = (0..a.shape().len()).collect();
    let rank = transposed.len();
    transposed.swap(rank - 2, rank - 1);
    [
        wanted[0].then(|| dy.matmul(b.permute(&transposed))),
        wanted[1].then(|| a.permute(&transposed).matmul(dy)),
    ]
}

fn gather<'g>(table: Expr<'g>, ids: Expr<'g>, dy: Expr<'g>) -> Expr<'g> {
    let (shape, picked) = (table.shape(), ids.shape().elements());
    let ids = ids.reshape([picked]);
    dy.reshape(shape.with_extent(0, picked)).scatter_add(ids, shape[0])
}

/// The gradients of the state and of what is written to it. Replaced rows of the state no longer
/// matter; the others are as before.
fn write_rows<'g>(state: Expr<'g>, ids: Expr<'g>, dy: Expr<'g>) -> [Expr<'g>; 2] {
    let (rows, rank) = (state.shape()[0], state.shape().len());
    let source = dy.gather(ids);
    let ones = dy.constant(1.0).broadcast([ids.shape()[0]]);
    let column: Shape = (0..rank).map(|axis| if axis == 0 { rows } else { 1 }).collect();
    let written = ones.scatter_add(ids, rows).reshape(column);
    [written.select(dy.constant(0.0), dy), source]
}

fn top_k<'g>(g: &'g Equations<'_>, x: Expr<'g>, ids: Expr<'g>, dy: Expr<'g>) -> Expr<'g> {
    let (n, m, k) = (x.shape()[0], x.shape()[1], ids.shape()[1]);
    let starts = g.iota(n) * g.constant(m as f64, DType::I32);
    let places = (starts.reshape([n, 1]) + ids).reshape([n * k]);
    dy.reshape([n * k]).scatter_add(places, n * m).reshape([n, m])
}

/// The gradient with zeros before and after it along the axis.
fn slice<'g>(x: Expr<'g>, axis: usize, start: usize, dy: Expr<'g>) -> Expr<'g> {
    let (shape, length) = (x.shape(), dy.shape()[axis]);
    let zeros = |extent: usize| dy.constant(0.0).broadcast(shape.with_extent(axis, extent));
    let mut parts: SmallVec<[Expr<'g>; 3]> = SmallVec::new();
    if start > 0 {
        parts.push(zeros(start));
    }
    parts.push(dy);
    if start + length < shape[axis] {
        parts.push(zeros(shape[axis] - start - length));
    }
    parts[0].concat(axis, &parts[1..])
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
