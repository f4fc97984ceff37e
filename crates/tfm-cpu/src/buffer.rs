//! The memory of the CPU backend, and slices of it for views.

use std::borrow::Cow;

use half::{bf16, f16};
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::{BackendError, DType, Layout};

use crate::kernels::aligned::{Aligned, Zeroed};
use crate::kernels::int8::pack::QuantizedWeight;
use crate::kernels::pack::PackedWeight;
use crate::kernels::pairs::Pair;

/// Memory of the CPU backend.
#[derive(Debug)]
pub enum Buffer {
    /// Elements of [`DType::F32`].
    F32(Aligned<f32>),
    /// Elements of [`DType::F16`].
    F16(Aligned<f16>),
    /// Elements of [`DType::BF16`].
    BF16(Aligned<bf16>),
    /// Elements of [`DType::I32`].
    I32(Aligned<i32>),
    /// A weight in `f32` that [`tfm_core::Backend::pack`] has made.
    Packed(PackedWeight),
    /// A weight in `bf16`, made in the same way.
    Pairs(PackedWeight<Pair>),
    /// A weight in 8-bit integers, made in the same way.
    Quantized(QuantizedWeight),
}

/// An element of a buffer.
pub(crate) trait Element: Zeroed + Default + PartialOrd + Send + Sync + 'static {
    /// The elements of a buffer of this type; panics for another.
    fn slice(buffer: &Buffer) -> &[Self];
    /// The elements of a buffer of this type; panics for another.
    fn slice_mut(buffer: &mut Buffer) -> &mut [Self];
    /// A buffer of these elements.
    fn buffer(elements: Aligned<Self>) -> Buffer;
    /// The number, exactly.
    fn to_f64(self) -> f64;
    /// The nearest number of this type; integers truncate towards zero.
    fn from_f64(x: f64) -> Self;
    /// The number; an integer is rounded.
    fn to_f32(self) -> f32;
    /// The nearest number of this type; integers truncate towards zero.
    fn from_f32(x: f32) -> Self;
}

macro_rules! element {
    ($type:ident, $variant:ident, $to_f64:expr, $from_f64:expr, $to_f32:expr, $from_f32:expr) => {
        impl Element for $type {
            fn slice(buffer: &Buffer) -> &[Self] {
                match buffer {
                    Buffer::$variant(data) => data,
                    _ => panic!(concat!("a buffer of another type than ", stringify!($type))),
                }
            }
            fn slice_mut(buffer: &mut Buffer) -> &mut [Self] {
                match buffer {
                    Buffer::$variant(data) => data,
                    _ => panic!(concat!("a buffer of another type than ", stringify!($type))),
                }
            }
            fn buffer(elements: Aligned<Self>) -> Buffer {
                Buffer::$variant(elements)
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to_f64(self)
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                $from_f64(x)
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to_f32(self)
            }
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                $from_f32(x)
            }
        }
    };
}

element!(f32, F32, f64::from, |x| x as f32, |x| x, |x| x);
element!(f16, F16, f16::to_f64, tfm_core::f16_from_f64, f16::to_f32, f16::from_f32);
element!(bf16, BF16, bf16::to_f64, tfm_core::bf16_from_f64, bf16::to_f32, bf16::from_f32);
element!(i32, I32, f64::from, |x| x as i32, |x| x as f32, |x| x as i32);

/// Evaluates `$body` with the type `$T` standing for the element type of a [`DType`].
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            tfm_core::DType::F32 => {
                type $T = f32;
                $body
            }
            tfm_core::DType::F16 => {
                type $T = half::f16;
                $body
            }
            tfm_core::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            tfm_core::DType::I32 => {
                type $T = i32;
                $body
            }
        }
    };
}
pub(crate) use with_element;

/// A buffer of `elements` zeros, or the error that there is no memory.
pub(crate) fn allocate(dtype: DType, elements: usize) -> Outcome<Buffer> {
    with_element!(dtype, T => {
        let data = Aligned::<T>::new(elements);
        Ok(T::buffer(data.map_err(|_| out_of_memory(elements.saturating_mul(size_of::<T>())))?))
    })
}

/// The error that there is no memory for `bytes` more bytes.
pub(crate) fn out_of_memory(bytes: usize) -> BackendError {
    BackendError::OutOfMemory { backend: "cpu".into(), bytes }
}

/// The elements from a view's first one to the end of its buffer. The layout's strides find each.
pub(crate) fn from_offset<'a, T: Element>(view: &View<'a, Buffer>) -> &'a [T] {
    let data = T::slice(view.buffer);
    &data[view.layout.offset().min(data.len())..]
}

/// The elements of a view in row-major order; borrowed if they lie in that order.
pub(crate) fn in_order<'a, T: Element>(view: &View<'a, Buffer>) -> Cow<'a, [T]> {
    let (data, elements) = (from_offset::<T>(view), view.layout.shape().elements());
    if view.layout.is_contiguous() {
        return Cow::Borrowed(&data[..elements]);
    }
    let mut copy = vec![T::default(); elements];
    crate::strided::copy(data, view.layout, &mut copy, &Layout::contiguous(view.layout.shape()));
    Cow::Owned(copy)
}

/// The elements of a contiguous destination.
pub(crate) fn destination<'a, T: Element>(view: &'a mut ViewMut<'_, Buffer>) -> &'a mut [T] {
    assert!(view.layout.is_contiguous(), "a destination must be contiguous");
    let (start, elements) = (view.layout.offset(), view.layout.shape().elements());
    if elements == 0 {
        return &mut [];
    }
    &mut T::slice_mut(view.buffer)[start..start + elements]
}
