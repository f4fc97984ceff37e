//! Recipes for problems of one op each, with operands of all the sizes and kinds that may break a kernel:
//! no rows, one, lengths that are no multiple of a vector, ties, infinities, rows where nothing is visible.

mod attention;
mod fused;
mod indices;
mod primitives;

use super::Recipe;
use crate::{DType, Tensor};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

pub use attention::{Ragged, row_tables};

/// How strided operands must compare with contiguous ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// The same bits: each element or row is computed by itself.
    Bits,
    /// The same up to rounding: a sum may run in another order.
    Bounds,
}

/// The recipes of one op.
pub struct Family {
    /// The op, for a fused one as in [`crate::fused::Fused::NAMES`].
    pub name: &'static str,
    /// How its results depend on layouts.
    pub layouts: Sameness,
    /// The recipes.
    pub recipes: BoxedStrategy<Recipe>,
}

impl Family {
    fn new(name: &'static str, layouts: Sameness, recipes: BoxedStrategy<Recipe>) -> Self {
        Family { name, layouts, recipes }
    }
}

/// The recipes of all primitive ops.
pub fn primitives(dtypes: &[DType]) -> Vec<Family> {
    let dtype = dtype(dtypes);
    let mut families = primitives::families(&dtype);
    families.extend(indices::families(&dtype));
    families
}

/// The recipes of all fused ops, each by its name.
pub fn fused(dtypes: &[DType]) -> Vec<Family> {
    let dtype = dtype(dtypes);
    let mut families = fused::families(&dtype);
    families.extend(attention::families(&dtype));
    families
}

/// One of these types.
fn dtype(dtypes: &[DType]) -> BoxedStrategy<DType> {
    proptest::sample::select(dtypes.to_vec()).boxed()
}

/// A float type and the seed of the data.
fn basics(dtype: &BoxedStrategy<DType>) -> BoxedStrategy<(DType, u64)> {
    (dtype.clone(), any::<u64>().no_shrink()).boxed()
}

/// Extents at and around the widths of vectors and tiles, and anything up to `most`.
fn extent(most: usize) -> BoxedStrategy<usize> {
    let edges: Vec<usize> =
        [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 512]
            .into_iter()
            .filter(|&edge| edge <= most)
            .collect();
    prop_oneof![proptest::sample::select(edges), 0..=most].boxed()
}

/// A shape of up to four axes, each at most `most`.
fn shape(most: usize) -> BoxedStrategy<Vec<usize>> {
    prop_oneof![
        4 => proptest::collection::vec(1..=most, 0..=4),
        1 => proptest::collection::vec(0..=most, 1..=4),
        1 => extent(600).prop_map(|n| vec![n]),
    ]
    .boxed()
}

/// A tensor of floats for a recipe.
fn tensor(dtype: DType, shape: &[usize], values: Vec<f64>) -> Tensor {
    crate::reference::tensor_from_f64(values.into_iter(), dtype, &shape.into())
}
