//! Where files keep a parameter.

use std::ops::Range;
use tfm_core::Shape;

/// The rows of a tensor of the files that are one parameter.
#[derive(Debug, Clone)]
pub(crate) struct TensorSlice {
    /// The names of the tensor. Tied tensors have several; any will do.
    pub(crate) names: Vec<String>,
    /// How many of the names are written, each with a tensor of its own. One, but where a family's
    /// readers don't tie what the model has tied.
    pub(crate) written: usize,
    /// The shape of the tensor.
    pub(crate) shape: Shape,
    /// The rows of the tensor that are this parameter. A single row of several is without its first
    /// axis.
    pub(crate) rows: Range<usize>,
    /// Whether files may leave it out, and it is zero then.
    pub(crate) optional: bool,
}

impl TensorSlice {
    /// A tensor that is the parameter as a whole.
    pub(super) fn whole(names: Vec<String>, shape: &Shape) -> Self {
        let rows = 0..shape.first().copied().unwrap_or(1);
        TensorSlice { names, written: 1, shape: shape.clone(), rows, optional: false }
    }

    /// The part `number` of `count` equal parts that lie one upon another.
    pub(super) fn block(name: String, shape: &Shape, number: usize, count: usize) -> Self {
        let rows = shape.first().copied().unwrap_or(1);
        TensorSlice {
            shape: shape.with_extent(0, count * rows),
            rows: number * rows..(number + 1) * rows,
            ..Self::whole(vec![name], shape)
        }
    }

    /// A vector `[n]` that files keep as one row `[1, n]`.
    pub(super) fn as_row(name: &str, shape: &Shape) -> Self {
        let whole = Self::whole(vec![name.into()], shape);
        TensorSlice { shape: Shape::from([1, shape.elements()]), rows: 0..1, ..whole }
    }

    /// The last rows of a table that has `unused` rows before them.
    pub(super) fn after(unused: usize, name: String, shape: &Shape) -> Self {
        let rows = shape.first().copied().unwrap_or(1);
        TensorSlice {
            shape: shape.with_extent(0, unused + rows),
            rows: unused..unused + rows,
            ..Self::whole(vec![name], shape)
        }
    }

    /// The same, but zero where files leave it out.
    pub(super) fn or_zero(self, optional: bool) -> Self {
        TensorSlice { optional, ..self }
    }
}
