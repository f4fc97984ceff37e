//! Buffers of the reference backend, and how views read and write them.

use super::Scalar;
use crate::Layout;
use crate::backend::{View, ViewMut};
use std::borrow::Cow;

/// Memory of the reference backend.
#[derive(Debug, Clone)]
pub enum Buffer<N> {
    /// Of every float type.
    Floats(Vec<N>),
    /// Of [`crate::DType::I32`].
    Integers(Vec<i32>),
}

/// The elements of a view in row-major order, borrowed where they lie so.
fn in_order<'a, T: Copy>(data: &'a [T], layout: &Layout) -> Cow<'a, [T]> {
    if layout.shape().contains(&0) {
        Cow::Borrowed(&[])
    } else if layout.is_contiguous() {
        Cow::Borrowed(&data[layout.offset()..layout.end()])
    } else {
        Cow::Owned(layout.positions().map(|position| data[position]).collect())
    }
}

/// The elements of a view of floats.
pub(super) fn floats<'a, N: Scalar>(view: &View<'a, Buffer<N>>) -> Cow<'a, [N]> {
    match view.buffer {
        Buffer::Floats(data) => in_order(data, view.layout),
        Buffer::Integers(_) => panic!("a {} view of integers", view.dtype),
    }
}

/// The elements of a view of integers.
pub(super) fn integers<'a, N: Scalar>(view: &View<'a, Buffer<N>>) -> Cow<'a, [i32]> {
    match view.buffer {
        Buffer::Integers(data) => in_order(data, view.layout),
        Buffer::Floats(_) => panic!("an {} view of floats", view.dtype),
    }
}

/// Writes all elements of a destination, in row-major order.
fn write<T>(data: &mut [T], layout: &Layout, values: impl Iterator<Item = T>) {
    for (position, value) in layout.positions().zip(values) {
        data[position] = value;
    }
}

pub(super) fn write_floats<N: Scalar>(
    dst: ViewMut<'_, Buffer<N>>,
    values: impl Iterator<Item = N>,
) {
    match dst.buffer {
        Buffer::Floats(data) => write(data, dst.layout, values),
        Buffer::Integers(_) => panic!("a {} view of integers", dst.dtype),
    }
}

pub(super) fn write_integers<N: Scalar>(
    dst: ViewMut<'_, Buffer<N>>,
    values: impl Iterator<Item = i32>,
) {
    match dst.buffer {
        Buffer::Integers(data) => write(data, dst.layout, values),
        Buffer::Floats(_) => panic!("an {} view of floats", dst.dtype),
    }
}
