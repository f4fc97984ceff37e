//! Recipes for problems of one op each, with operands of all the sizes and kinds that may break a
//! kernel: no rows, one, lengths that are no multiple of a vector, ties, infinities, rows where
//! nothing is visible.

mod attention;
mod fused;
mod graphs;
mod indices;
mod primitives;
mod ragged;
mod shortlist;
mod training;

use super::Recipe;
use crate::{DType, Tensor};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

pub use attention::{
    Heads, KeySource, RowLists, bias_table, heads, key_set, relative_bias, row_tables, soft_cap,
};
pub use graphs::graphs;
pub use ragged::Ragged;
pub(super) use shortlist::{Lists, list};

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
    /// The op, for a fused one as in [`crate::fused::Fused::NAMES`], and what is special about its
    /// operands.
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

/// What the recipes are to be drawn from.
#[derive(Debug, Clone)]
pub struct Range {
    /// The float types.
    pub dtypes: Vec<DType>,
    /// Whether every extent is 0 or 1.
    pub tiny: bool,
}

impl Range {
    /// All sizes.
    pub fn new(dtypes: &[DType]) -> Self {
        Range { dtypes: dtypes.to_vec(), tiny: false }
    }

    /// Nothing, or one of each.
    pub fn tiny(dtypes: &[DType]) -> Self {
        Range { dtypes: dtypes.to_vec(), tiny: true }
    }
}

/// The recipes of all primitive ops.
pub fn primitives(range: &Range) -> Vec<Family> {
    let mut families = primitives::families(range);
    families.extend(indices::families(range));
    families
}

/// The recipes of all fused ops, each by its name.
pub fn fused(range: &Range) -> Vec<Family> {
    let mut families = fused::families(range);
    families.extend(shortlist::families(range));
    families.extend(attention::families(range));
    families.extend(training::families(range));
    families
}

/// Those of [`fused`], and of ops whose operands have several types of floats.
pub fn fused_of_any_types(range: &Range) -> Vec<Family> {
    let mut families = fused(range);
    families.extend(attention::of_any_key_dtype(range));
    families
}

/// Random whole graphs, as a family.
pub fn whole_graphs(range: &Range) -> Family {
    Family::new("whole graphs", Sameness::Bounds, graphs(range))
}

/// One of the float types; `F32` as often as all others together, since it has the most kernels.
fn dtype(range: &Range) -> BoxedStrategy<DType> {
    let mut dtypes = range.dtypes.clone();
    if range.dtypes.contains(&DType::F32) {
        dtypes.extend(vec![DType::F32; range.dtypes.len().saturating_sub(2)]);
    }
    proptest::sample::select(dtypes).boxed()
}

/// A float type and the seed of the data.
fn basics(range: &Range) -> BoxedStrategy<(DType, u64)> {
    (dtype(range), any::<u64>().no_shrink()).boxed()
}

/// Extents at and around the widths of vectors and tiles, and anything up to `most`.
fn extent(range: &Range, most: usize) -> BoxedStrategy<usize> {
    let most = if range.tiny { most.min(1) } else { most };
    let edges: Vec<usize> = [
        0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 512,
    ]
    .into_iter()
    .filter(|&edge| edge <= most)
    .collect();
    prop_oneof![proptest::sample::select(edges), 0..=most].boxed()
}

/// A shape of up to four axes, each at most `most`.
fn shape(range: &Range, most: usize) -> BoxedStrategy<Vec<usize>> {
    if range.tiny {
        return proptest::collection::vec(0..=1usize, 0..=4).boxed();
    }
    prop_oneof![
        4 => proptest::collection::vec(1..=most, 0..=4),
        1 => proptest::collection::vec(0..=most, 1..=4),
        1 => extent(range, 600).prop_map(|n| vec![n]),
    ]
    .boxed()
}

/// A tensor of floats for a recipe.
fn tensor(dtype: DType, shape: &[usize], values: Vec<f64>) -> Tensor {
    crate::reference::tensor_from_f64(values.into_iter(), dtype, &shape.into())
}
