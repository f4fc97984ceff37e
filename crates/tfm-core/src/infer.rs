//! Shape inference of the primitive ops: what each takes, and the shape and type of what it gives.

use crate::fused::{Operand, Results};
use crate::op::Op;
use crate::{DType, Shape};

/// The results of a primitive op on these operands, or what is wrong with them.
pub(crate) fn infer(op: &Op, inputs: &[Operand<'_>]) -> Result<Results, String> {
    let arity = match op {
        Op::Concat { .. } => inputs.len().max(1),
        Op::Select | Op::WriteRows => 3,
        Op::Binary(_) | Op::MatMul | Op::Gather | Op::ScatterAdd { .. } => 2,
        _ => 1,
    };
    if inputs.len() != arity {
        return Err(format!("takes {arity} operands, got {}", inputs.len()));
    }
    let x = inputs[0];
    let axis_of = |axis: usize| match x.shape.get(axis) {
        Some(&extent) => Ok(extent),
        None => Err(format!("axis {axis} of {}", x.shape)),
    };
    let one = |shape: Shape, dtype: DType| Ok(Results::from_iter([(shape, dtype)]));
    match op {
        Op::Unary(function) => {
            if !x.dtype.is_float() && !function.takes_integers() {
                return Err(format!("of {}", x.dtype));
            }
            one(x.shape.clone(), x.dtype)
        }
        Op::Binary(_) => {
            same_type(x, inputs[1])?;
            if x.shape != inputs[1].shape {
                return Err(format!("shapes {} and {} do not broadcast", x.shape, inputs[1].shape));
            }
            one(x.shape.clone(), x.dtype)
        }
        Op::Select => {
            same_type(inputs[1], inputs[2])?;
            if x.shape != inputs[1].shape || x.shape != inputs[2].shape {
                let shapes = [0, 1, 2].map(|i| inputs[i].shape.to_string()).join(", ");
                return Err(format!("shapes {shapes} do not broadcast"));
            }
            one(x.shape.clone(), inputs[1].dtype)
        }
        Op::Cast(dtype) => one(x.shape.clone(), *dtype),
        Op::Random { shape, .. } => {
            if x.dtype != DType::I32 || x.shape[..] != [3] {
                return Err(format!("the key must be i32 [3], is {} {}", x.dtype, x.shape));
            }
            one(shape.clone(), DType::F32)
        }
        Op::Reduce { axis, .. } => {
            axis_of(*axis)?;
            one(x.shape.with_extent(*axis, 1), x.dtype)
        }
        Op::MatMul => matmul(x, inputs[1]),
        Op::Gather => {
            let ids = inputs[1];
            if ids.dtype != DType::I32 {
                return Err(format!("ids must be i32, are {}", ids.dtype));
            }
            axis_of(0)?;
            one(ids.shape.iter().chain(&x.shape[1..]).copied().collect(), x.dtype)
        }
        Op::ScatterAdd { rows } => {
            rows_by_index(x, inputs[1])?;
            one(x.shape.with_extent(0, *rows), x.dtype)
        }
        Op::WriteRows => {
            let (source, ids) = (inputs[1], inputs[2]);
            same_type(x, source)?;
            rows_by_index(source, ids)?;
            if x.shape.is_empty() || x.shape[1..] != source.shape[1..] {
                return Err(format!("rows of {} do not fit the state {}", source.shape, x.shape));
            }
            one(x.shape.clone(), x.dtype)
        }
        Op::TopK { k } => {
            if x.shape.len() != 2 || *k > x.shape[1] || !x.dtype.is_float() {
                return Err(format!("the {k} largest of each row of {} {}", x.dtype, x.shape));
            }
            let shape = x.shape.with_extent(1, *k);
            Ok(Results::from_iter([(shape.clone(), x.dtype), (shape, DType::I32)]))
        }
        Op::Concat { axis } => {
            let mut extent = 0usize;
            axis_of(*axis)?;
            for operand in inputs {
                same_type(x, *operand)?;
                if operand.shape.len() != x.shape.len()
                    || operand.shape.with_extent(*axis, 0) != x.shape.with_extent(*axis, 0)
                {
                    return Err(format!("{} and {} along axis {axis}", x.shape, operand.shape));
                }
                extent = extent.saturating_add(operand.shape[*axis]);
            }
            one(x.shape.with_extent(*axis, extent), x.dtype)
        }
        Op::Reshape(shape) => {
            if shape.checked_elements() != x.shape.checked_elements() {
                return Err(format!("{} elements of {} as {shape}", x.shape.elements(), x.shape));
            }
            one(shape.clone(), x.dtype)
        }
        Op::Permute(order) => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..x.shape.len()) {
                return Err(format!("{order:?} does not order the axes of {}", x.shape));
            }
            one(order.iter().map(|&axis| x.shape[axis]).collect(), x.dtype)
        }
        Op::Broadcast(shape) => {
            if x.shape.broadcast(shape).as_ref() != Some(shape) {
                return Err(format!("{} to {shape}", x.shape));
            }
            one(shape.clone(), x.dtype)
        }
        Op::Slice { axis, start, length } => {
            let extent = axis_of(*axis)?;
            if start.checked_add(*length).is_none_or(|end| end > extent) {
                return Err(format!("{start}.. of length {length} of axis {axis} of {}", x.shape));
            }
            one(x.shape.with_extent(*axis, *length), x.dtype)
        }
        Op::Contiguous | Op::Pack(_) => one(x.shape.clone(), x.dtype),
        Op::Input { .. }
        | Op::Parameter { .. }
        | Op::State { .. }
        | Op::Constant(_)
        | Op::Iota
        | Op::Fused(_) => unreachable!("sources and fused ops are inferred elsewhere"),
    }
}

fn matmul(a: Operand<'_>, b: Operand<'_>) -> Result<Results, String> {
    same_type(a, b)?;
    let problem = || format!("{} × {}", a.shape, b.shape);
    if !a.dtype.is_float() {
        return Err(format!("of {}", a.dtype));
    }
    let ([a_outer @ .., _, a_k], [b_outer @ .., b_k, n]) = (&a.shape[..], &b.shape[..]) else {
        return Err(problem());
    };
    if a_outer != b_outer || a_k != b_k {
        return Err(problem());
    }
    let shape = a.shape.with_extent(a.shape.len() - 1, *n);
    Ok(Results::from_iter([(shape, a.dtype)]))
}

fn same_type(a: Operand<'_>, b: Operand<'_>) -> Result<(), String> {
    if a.dtype == b.dtype {
        return Ok(());
    }
    Err(format!("operands of types {} and {}", a.dtype, b.dtype))
}

fn rows_by_index(source: Operand<'_>, ids: Operand<'_>) -> Result<(), String> {
    if ids.dtype == DType::I32
        && ids.shape.len() == 1
        && source.shape.first() == Some(&ids.shape[0])
    {
        return Ok(());
    }
    Err(format!("rows of {} by ids {} {}", source.shape, ids.dtype, ids.shape))
}
