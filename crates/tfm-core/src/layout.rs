//! Layouts: how the elements of a value lie in a buffer. Movement ops change the layout, not the
//! data.

use crate::Shape;
use smallvec::SmallVec;

/// Where the elements of a value lie in its buffer: element `[i, j, …]` is at
/// `offset + i·strides[0] + j·strides[1] + …`, counted in elements. A stride of 0 repeats
/// (broadcasts).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    strides: SmallVec<[usize; 4]>,
    offset: usize,
}

impl Layout {
    /// The row-major layout without gaps, from the start of the buffer.
    pub fn contiguous(shape: &Shape) -> Self {
        Layout { strides: row_major(shape), shape: shape.clone(), offset: 0 }
    }

    /// A layout from its parts. `strides` has one entry an axis.
    pub fn from_parts(shape: Shape, strides: &[usize], offset: usize) -> Self {
        assert_eq!(shape.len(), strides.len(), "one stride an axis");
        Layout { shape, strides: SmallVec::from_slice(strides), offset }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The strides, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The position of the first element.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// One past the highest position addressed; 0 when there is no element.
    pub fn end(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        let last: usize = self
            .shape
            .iter()
            .zip(&self.strides)
            .map(|(extent, stride)| (extent - 1) * stride)
            .sum();
        self.offset + last + 1
    }

    /// Whether the elements lie row-major without gaps (at any offset). Axes of extent 1 do not
    /// matter, and an empty layout has no gaps.
    pub fn is_contiguous(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let mut expected = 1;
        for (&extent, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if extent != 1 && stride != expected {
                return false;
            }
            expected *= extent;
        }
        true
    }

    /// Whether each row (the last axis) is contiguous.
    pub fn has_contiguous_rows(&self) -> bool {
        self.shape.last_extent() == 1 || self.strides.last().is_none_or(|&stride| stride == 1)
    }

    /// The rows of a layout: how many, how long, how far apart. `None` where the last axis has
    /// gaps, or the others cannot be walked with one stride.
    pub fn as_rows(&self) -> Option<(usize, usize, usize)> {
        let shape = &self.shape;
        let (&cols, outer) = shape.split_last()?;
        if self.is_contiguous() {
            return Some((shape.rows(), cols, cols));
        }
        if !self.has_contiguous_rows() {
            return None;
        }
        let mut merged: Option<(usize, usize)> = None;
        for (&extent, &stride) in
            outer.iter().zip(&self.strides).filter(|(extent, _)| **extent != 1)
        {
            merged = match merged {
                None => Some((extent, stride)),
                Some((rows, above)) if above == stride * extent => Some((rows * extent, stride)),
                Some(_) => return None,
            };
        }
        let (rows, stride) = merged.unwrap_or((1, cols));
        Some((rows, cols, stride))
    }

    /// The axes reordered: axis `a` of the result is axis `order[a]` of this layout.
    pub fn permute(&self, order: &[usize]) -> Self {
        Layout {
            shape: order.iter().map(|&axis| self.shape[axis]).collect(),
            strides: order.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
        }
    }

    /// The elements `start .. start + length` of `axis`.
    pub fn slice(&self, axis: usize, start: usize, length: usize) -> Self {
        Layout {
            shape: self.shape.with_extent(axis, length),
            strides: self.strides.clone(),
            offset: self.offset + start * self.strides[axis],
        }
    }

    /// This value repeated to `shape`, aligned at the last axis. The shapes must broadcast.
    pub fn broadcast(&self, shape: &Shape) -> Self {
        let new_axes = shape.len() - self.shape.len();
        let strides = (0..shape.len())
            .map(|axis| match axis.checked_sub(new_axes) {
                Some(own) if self.shape[own] == shape[axis] => self.strides[own],
                _ => 0,
            })
            .collect();
        Layout { shape: shape.clone(), strides, offset: self.offset }
    }

    /// The same elements in the same order under another shape, or `None` if strides cannot express
    /// it.
    pub fn reshape(&self, shape: &Shape) -> Option<Self> {
        if self.is_contiguous() {
            return Some(Layout {
                strides: row_major(shape),
                shape: shape.clone(),
                offset: self.offset,
            });
        }
        // Both shapes are cut into the shortest groups of axes with equal products. A group can
        // take new axes if its old axes are contiguous among themselves.
        let mut strides: SmallVec<[usize; 4]> = SmallVec::from_elem(0, shape.len());
        let (mut old, mut new) = (0, 0);
        while old < self.shape.len() || new < shape.len() {
            let (old_start, new_start) = (old, new);
            let (mut old_product, mut new_product) = (1, 1);
            if old < self.shape.len() {
                old_product = self.shape[old];
                old += 1;
            }
            if new < shape.len() {
                new_product = shape[new];
                new += 1;
            }
            while old_product != new_product {
                if old_product < new_product {
                    old_product *= *self.shape.get(old)?;
                    old += 1;
                } else {
                    new_product *= *shape.get(new)?;
                    new += 1;
                }
            }
            let group = old_start..old;
            let joined = group
                .clone()
                .filter(|&axis| self.shape[axis] != 1)
                .collect::<SmallVec<[usize; 4]>>();
            let contiguous = joined
                .windows(2)
                .all(|pair| self.strides[pair[0]] == self.strides[pair[1]] * self.shape[pair[1]]);
            if !contiguous {
                return None;
            }
            let mut stride = joined.last().map_or(1, |&axis| self.strides[axis]);
            for axis in (new_start..new).rev() {
                strides[axis] = stride;
                stride *= shape[axis];
            }
        }
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }

    /// The positions of all elements in row-major order. For reference code and rare strided paths;
    /// kernels walk the strides themselves.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, self.shape.len());
        let mut position = self.offset;
        (0..self.shape.elements()).map(move |_| {
            let here = position;
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                position += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                position -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
            here
        })
    }
}

fn row_major(shape: &Shape) -> SmallVec<[usize; 4]> {
    let mut strides: SmallVec<[usize; 4]> = SmallVec::from_elem(1, shape.len());
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1].max(1);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_joined_projections_reshapes_to_heads_without_a_copy() {
        let joined = Layout::contiguous(&[5, 24].into());
        let heads = joined.slice(1, 8, 8).reshape(&[5, 2, 4].into()).unwrap();
        assert_eq!(heads.strides(), [24, 4, 1]);
        assert_eq!(heads.offset(), 8);
        assert_eq!(heads.end(), 8 + 4 * 24 + 8);
    }

    #[test]
    fn a_transposed_value_cannot_be_flattened_by_strides() {
        let transposed = Layout::contiguous(&[3, 4].into()).permute(&[1, 0]);
        assert!(transposed.reshape(&[12].into()).is_none());
        assert_eq!(
            transposed.positions().collect::<Vec<_>>(),
            [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
        );
    }

    #[test]
    fn empty_layouts_have_no_positions() {
        let empty = Layout::contiguous(&[0, 4].into());
        assert_eq!(empty.positions().count(), 0);
        assert_eq!(empty.end(), 0);
        assert!(empty.is_contiguous());
    }

    #[test]
    fn rows_of_a_slice_of_joined_projections() {
        let joined = Layout::contiguous(&[5, 24].into());
        assert_eq!(joined.slice(1, 8, 8).as_rows(), Some((5, 8, 24)));
        assert_eq!(joined.permute(&[1, 0]).as_rows(), None);
        assert_eq!(Layout::contiguous(&[2, 3, 4].into()).as_rows(), Some((6, 4, 4)));
        assert_eq!(Layout::contiguous(&[3, 8, 4].into()).slice(1, 0, 2).as_rows(), None);
        assert_eq!(
            Layout::contiguous(&[4].into()).broadcast(&[3, 4].into()).as_rows(),
            Some((3, 4, 0))
        );
    }
}
