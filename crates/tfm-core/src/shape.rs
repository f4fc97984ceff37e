//! Shapes: the extents of a value, outermost first.

use smallvec::SmallVec;
use std::fmt;
use std::ops::Deref;

/// The extents of a value. A scalar has the empty shape. Extents may be zero.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 4]>);

impl Shape {
    /// The shape with these extents.
    pub fn new(extents: &[usize]) -> Self {
        Shape(SmallVec::from_slice(extents))
    }

    /// The number of elements. Shapes inside a graph never overflow: [`Shape::checked_elements`] is
    /// asked when a value is added.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// The number of elements, or `None` if they, or the strides between them, do not fit in an
    /// `isize`.
    pub fn checked_elements(&self) -> Option<usize> {
        // An extent of 0 leaves no elements, but the strides of the others must still fit.
        let most =
            self.0.iter().try_fold(1usize, |most, &extent| most.checked_mul(extent.max(1)))?;
        (most <= isize::MAX as usize).then(|| self.elements())
    }

    /// The last extent; 1 for a scalar.
    pub fn last_extent(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// The number of rows: the product of all extents but the last.
    pub fn rows(&self) -> usize {
        self.0.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// This shape with the extent of `axis` replaced.
    pub fn with_extent(&self, axis: usize, extent: usize) -> Self {
        let mut shape = self.clone();
        shape.0[axis] = extent;
        shape
    }

    /// The shape to which both broadcast: aligned at the last axis, extents equal or one of them 1.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.len().max(other.len());
        let extent = |shape: &Shape, axis: usize| {
            (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
        };
        (0..rank)
            .map(|axis| match (extent(self, axis), extent(other, axis)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<SmallVec<_>>>()
            .map(Shape)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Self {
        Shape::new(&extents)
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Self {
        Shape::new(extents)
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(extents: I) -> Self {
        Shape(extents.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, extent) in self.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{extent}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
