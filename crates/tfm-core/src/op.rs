//! The primitive ops: few, and each backend has them all.

use crate::fused::{Fused, FusedOp};
use crate::{DType, Shape};
use std::sync::Arc;

/// What a node computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Data given at each run. Integer inputs may be declared as indices below a bound, which is
    /// checked.
    Input {
        /// Its name in `run`.
        name: Arc<str>,
        /// The exclusive upper bound of its elements (the lower is 0), or none.
        bound: Option<usize>,
    },
    /// A tensor of the model, the same at every run.
    Parameter {
        /// Its name in the source of parameters.
        name: Arc<str>,
    },
    /// Device memory passed to each run, which `WriteRows` changes in place.
    State {
        /// Its name in `run`.
        name: Arc<str>,
    },
    /// One number, as a scalar.
    Constant(Number),
    /// `[0, 1, …, n−1]`, in `I32`.
    Iota,
    /// Element-wise function of one operand.
    Unary(UnaryOp),
    /// Element-wise function of two operands of one shape.
    Binary(BinaryOp),
    /// Inputs condition, a, b: a where the condition is not 0, else b.
    Select,
    /// Converts to another element type.
    Cast(DType),
    /// Uniform numbers in [0, 1): input key `I32 [3]`. The stream tells apart the draws of one
    /// step.
    Random {
        /// The stream.
        stream: u32,
        /// The shape drawn.
        shape: Shape,
    },
    /// Reduces one axis to extent 1.
    Reduce {
        /// The reduction.
        op: ReduceOp,
        /// The axis.
        axis: usize,
    },
    /// Batched matrix product `[…, m, k] × […, k, n]`.
    MatMul,
    /// Rows of a table by index: inputs table, ids.
    Gather,
    /// Sums of rows by index: inputs source `[i, …]`, ids `[i]`; the result has `rows` rows.
    ScatterAdd {
        /// The number of rows of the result.
        rows: usize,
    },
    /// Inputs state, source `[i, …]`, ids `[i]`: the state with rows replaced, in place.
    WriteRows,
    /// The k largest of each row, with their indices.
    TopK {
        /// How many.
        k: usize,
    },
    /// All operands one after the other along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// The same elements under another shape.
    Reshape(Shape),
    /// The axes reordered: axis `a` of the result is axis `order[a]` of the operand.
    Permute(Vec<usize>),
    /// Repeated to a shape.
    Broadcast(Shape),
    /// A range of one axis.
    Slice {
        /// The axis.
        axis: usize,
        /// The first element.
        start: usize,
        /// How many.
        length: usize,
    },
    /// The operand without gaps. Inserted by lowering where a fused op wants it.
    Contiguous,
    /// The operand in a backend's own storage. Inserted by lowering, folded at load.
    Pack(PackFormat),
    /// A fused op.
    Fused(Fused),
}

/// The name of a backend's own way to store a weight. The backend makes it once, at load
/// ([`Backend::pack`](crate::Backend::pack)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackFormat(pub &'static str);

/// A constant, compared by its bits so that NaN equals itself.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// Element-wise functions of one operand. Only `Neg` and `Abs` take integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum UnaryOp {
    Neg,
    Abs,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Sin,
    Cos,
    Tanh,
    /// The error function.
    Erf,
    /// The nearest integer, of two the even one.
    Round,
}

impl UnaryOp {
    /// Every function.
    pub const ALL: [UnaryOp; 11] = [
        UnaryOp::Neg,
        UnaryOp::Abs,
        UnaryOp::Exp,
        UnaryOp::Log,
        UnaryOp::Sqrt,
        UnaryOp::Reciprocal,
        UnaryOp::Sin,
        UnaryOp::Cos,
        UnaryOp::Tanh,
        UnaryOp::Erf,
        UnaryOp::Round,
    ];

    /// Whether it takes integers.
    pub fn takes_integers(self) -> bool {
        matches!(self, UnaryOp::Neg | UnaryOp::Abs)
    }
}

/// Element-wise functions of two operands. All take integers; `Div` truncates there, and 0 divides
/// to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    /// 1 where a < b, else 0, in the operands' type.
    Less,
    /// 1 where a = b, else 0, in the operands' type.
    Equal,
}

impl BinaryOp {
    /// Every function.
    pub const ALL: [BinaryOp; 8] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Max,
        BinaryOp::Min,
        BinaryOp::Less,
        BinaryOp::Equal,
    ];
}

/// Reductions of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ReduceOp {
    Sum,
    Max,
}

impl Op {
    /// The op's name as it stands in errors and dumps.
    pub fn name(&self) -> String {
        match self {
            Op::Unary(op) => format!("{op:?}").to_lowercase(),
            Op::Binary(op) => format!("{op:?}").to_lowercase(),
            Op::Reduce { op, .. } => format!("reduce_{op:?}").to_lowercase(),
            Op::Fused(op) => op.name().to_string(),
            Op::ScatterAdd { .. } => "scatter_add".into(),
            Op::WriteRows => "write_rows".into(),
            Op::TopK { .. } => "top_k".into(),
            other => {
                let text = format!("{other:?}");
                let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
                text[..end].to_lowercase()
            }
        }
    }

    /// How many operands are computed in place; see [`FusedOp::in_place`].
    pub fn in_place(&self) -> usize {
        match self {
            Op::WriteRows => 1,
            Op::Fused(op) => op.in_place(),
            _ => 0,
        }
    }

    /// Whether the result shares its operand's memory (where strides can say it).
    pub fn is_movement(&self) -> bool {
        matches!(self, Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(_) | Op::Slice { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::Op;

    #[test]
    fn an_op_is_small() {
        // A training has a hundred thousand nodes in its programs.
        assert!(size_of::<Op>() <= 56, "{} bytes", size_of::<Op>());
    }
}
