//! The reference backend: every primitive op by its definition, in `f64`. It has no fused op, so
//! that the decompositions define those.
//!
//! Numbers are never rounded to the graph's float types, except when they leave by `download`.
//! Simple rather than fast. New memory holds NaN and `i32::MIN`, so that a read of unwritten memory
//! is noticed.

mod memory;
mod scalar;

pub use memory::Buffer;
pub use scalar::{Scalar, binary_f64, tensor_from_f64, unary_f64};

use crate::backend::{Outcome, View, ViewMut};
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::{Backend, DType, HostSlice, Shape, Tensor, philox};
use memory::{floats, integers, write_floats, write_integers};
use std::marker::PhantomData;

/// The reference backend, generic over its arithmetic.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference<N = f64>(PhantomData<N>);

impl<N> Reference<N> {
    /// The backend. It has no settings and uses one thread.
    pub fn new() -> Self {
        Reference(PhantomData)
    }
}

fn unary_i32(op: UnaryOp, x: i32) -> i32 {
    match op {
        UnaryOp::Neg => x.wrapping_neg(),
        UnaryOp::Abs => x.wrapping_abs(),
        _ => unreachable!("{op:?} takes no integers"),
    }
}

fn binary_i32(op: BinaryOp, a: i32, b: i32) -> i32 {
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div if b == 0 => 0,
        BinaryOp::Div => a.wrapping_div(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::Min => a.min(b),
        BinaryOp::Less => i32::from(a < b),
        BinaryOp::Equal => i32::from(a == b),
    }
}

/// For each outer index, the elements along an axis for each inner index: `(outer, extent, inner)`.
fn around_axis(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Calls `reduce` on the elements along each line of `axis`.
fn reduce_lines<T: Copy>(
    data: &[T],
    shape: &Shape,
    axis: usize,
    reduce: impl Fn(&[T]) -> T,
) -> Vec<T> {
    let (outer, extent, inner) = around_axis(shape, axis);
    let mut line = Vec::with_capacity(extent);
    let mut results = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            line.clear();
            line.extend((0..extent).map(|j| data[(o * extent + j) * inner + i]));
            results.push(reduce(&line));
        }
    }
    results
}

/// A row index that the session or the graph has checked.
fn row_of(id: i32, rows: usize) -> usize {
    let row = usize::try_from(id).unwrap_or(usize::MAX);
    assert!(row < rows, "row {id} of {rows}");
    row
}

/// Row `ids[i]` of `source` for each i.
fn pick_rows<T: Copy>(source: &[T], rows: usize, width: usize, ids: &[i32]) -> Vec<T> {
    let row = |&id: &i32| row_of(id, rows) * width;
    ids.iter().flat_map(|id| &source[row(id)..row(id) + width]).copied().collect()
}

impl<N: Scalar> Backend for Reference<N> {
    type Buffer = Buffer<N>;

    fn name(&self) -> String {
        N::NAME.into()
    }

    fn fork(&self, _: usize) -> Outcome<Self> {
        Ok(Self::new())
    }

    fn allocate(&self, dtype: DType, elements: usize) -> Outcome<Buffer<N>> {
        Ok(match dtype {
            DType::I32 => Buffer::Integers(vec![i32::MIN; elements]),
            _ => Buffer::Floats(vec![N::exact(f64::NAN); elements]),
        })
    }

    fn upload(&self, src: HostSlice<'_>, dst: &mut Buffer<N>) -> Outcome {
        fn put<T, U>(dst: &mut [U], src: &[T], convert: impl Fn(&T) -> U) {
            dst.iter_mut().zip(src).for_each(|(dst, src)| *dst = convert(src));
        }
        match (src, dst) {
            (HostSlice::F32(src), Buffer::Floats(dst)) => {
                put(dst, src, |&x| N::exact(f64::from(x)))
            }
            (HostSlice::F16(src), Buffer::Floats(dst)) => {
                put(dst, src, |&x| N::exact(f64::from(x)))
            }
            (HostSlice::BF16(src), Buffer::Floats(dst)) => {
                put(dst, src, |&x| N::exact(f64::from(x)))
            }
            (HostSlice::I32(src), Buffer::Integers(dst)) => put(dst, src, |&x| x),
            (src, _) => panic!("{} for a buffer of another kind", src.dtype()),
        }
        Ok(())
    }

    fn download(&self, src: View<'_, Buffer<N>>) -> Outcome<Tensor> {
        let shape = src.layout.shape();
        Ok(match src.dtype {
            DType::I32 => Tensor::from_i32(shape.clone(), integers(&src).into_owned())
                .expect("one value an element"),
            dtype => N::export(&floats(&src), dtype, shape),
        })
    }

    fn fill(&self, value: f64, dst: ViewMut<'_, Buffer<N>>) -> Outcome {
        match dst.dtype {
            DType::I32 => write_integers(dst, std::iter::repeat(value as i32)),
            dtype => write_floats(dst, std::iter::repeat(N::exact(value).round(dtype))),
        }
        Ok(())
    }

    fn iota(&self, dst: ViewMut<'_, Buffer<N>>) -> Outcome {
        write_integers(dst, 0..);
        Ok(())
    }

    fn copy(&self, src: View<'_, Buffer<N>>, dst: ViewMut<'_, Buffer<N>>) -> Outcome {
        let dtype = dst.dtype;
        match (src.dtype.is_float(), dtype.is_float()) {
            (true, true) if src.dtype == dtype => write_floats(dst, floats(&src).iter().copied()),
            (true, true) => write_floats(dst, floats(&src).iter().map(|x| x.round(dtype))),
            (true, false) => write_integers(dst, floats(&src).iter().map(|x| x.value() as i32)),
            (false, true) => {
                write_floats(
                    dst,
                    integers(&src).iter().map(|&x| N::exact(f64::from(x)).round(dtype)),
                );
            }
            (false, false) => write_integers(dst, integers(&src).iter().copied()),
        }
        Ok(())
    }

    fn unary(&self, op: UnaryOp, src: View<'_, Buffer<N>>, dst: ViewMut<'_, Buffer<N>>) -> Outcome {
        match dst.dtype {
            DType::I32 => write_integers(dst, integers(&src).iter().map(|&x| unary_i32(op, x))),
            dtype => write_floats(dst, floats(&src).iter().map(|x| x.unary(op, dtype))),
        }
        Ok(())
    }

    fn binary(
        &self,
        op: BinaryOp,
        a: View<'_, Buffer<N>>,
        b: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        if dst.dtype == DType::I32 {
            let (a, b) = (integers(&a), integers(&b));
            write_integers(dst, a.iter().zip(&*b).map(|(&a, &b)| binary_i32(op, a, b)));
        } else {
            let (a, b, dtype) = (floats(&a), floats(&b), dst.dtype);
            write_floats(dst, a.iter().zip(&*b).map(|(a, b)| a.binary(op, *b, dtype)));
        }
        Ok(())
    }

    fn select(
        &self,
        condition: View<'_, Buffer<N>>,
        a: View<'_, Buffer<N>>,
        b: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        let condition: Vec<N> = match condition.dtype {
            DType::I32 => integers(&condition).iter().map(|&x| N::exact(f64::from(x))).collect(),
            _ => floats(&condition).into_owned(),
        };
        if dst.dtype == DType::I32 {
            let (a, b) = (integers(&a), integers(&b));
            let pairs = condition.iter().zip(a.iter().zip(&*b));
            write_integers(dst, pairs.map(|(c, (a, b))| if c.value() != 0.0 { *a } else { *b }));
        } else {
            let (a, b) = (floats(&a), floats(&b));
            write_floats(
                dst,
                condition.iter().zip(a.iter().zip(&*b)).map(|(c, (a, b))| c.choose(*a, *b)),
            );
        }
        Ok(())
    }

    fn random(
        &self,
        stream: u32,
        key: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        let key = integers(&key);
        let key = [key[0], key[1], key[2]];
        let number = |position| N::exact(f64::from(philox::uniform(key, stream, position)));
        write_floats(dst, (0..).map(number));
        Ok(())
    }

    fn reduce(
        &self,
        op: ReduceOp,
        axis: usize,
        src: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        let (shape, dtype) = (src.layout.shape(), dst.dtype);
        if dtype == DType::I32 {
            let results = reduce_lines(&integers(&src), shape, axis, |line: &[i32]| match op {
                ReduceOp::Sum => line.iter().fold(0, |sum: i32, &x| sum.wrapping_add(x)),
                ReduceOp::Max => line.iter().copied().max().unwrap_or(i32::MIN),
            });
            write_integers(dst, results.into_iter());
        } else {
            let results = reduce_lines(&floats(&src), shape, axis, |line: &[N]| match op {
                ReduceOp::Sum => N::sum(line, dtype),
                ReduceOp::Max => N::max(line),
            });
            write_floats(dst, results.into_iter());
        }
        Ok(())
    }

    fn matmul(
        &self,
        a: View<'_, Buffer<N>>,
        b: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        let rank = a.layout.shape().len();
        let (m, k, n) =
            (a.layout.shape()[rank - 2], a.layout.shape()[rank - 1], b.layout.shape()[rank - 1]);
        let mut swapped: Vec<usize> = (0..rank).collect();
        swapped.swap(rank - 2, rank - 1);
        let columns = b.layout.permute(&swapped); // […, n, k]
        let (a, b) = (floats(&a), floats(&View { layout: &columns, ..b }));
        let dtype = dst.dtype;
        let mut product = Vec::with_capacity(dst.layout.shape().elements());
        for batch in 0..dst.layout.shape()[..rank - 2].iter().product() {
            for i in batch * m..(batch + 1) * m {
                let row = &a[i * k..(i + 1) * k];
                product.extend(
                    (batch * n..(batch + 1) * n)
                        .map(|j| N::dot(row, &b[j * k..(j + 1) * k], dtype)),
                );
            }
        }
        write_floats(dst, product.into_iter());
        Ok(())
    }

    fn gather(
        &self,
        table: View<'_, Buffer<N>>,
        ids: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        let (_, rows, width) = around_axis(table.layout.shape(), 0);
        let ids = integers(&ids);
        match dst.dtype {
            DType::I32 => {
                write_integers(dst, pick_rows(&integers(&table), rows, width, &ids).into_iter());
            }
            _ => write_floats(dst, pick_rows(&floats(&table), rows, width, &ids).into_iter()),
        }
        Ok(())
    }

    fn scatter_add(
        &self,
        src: View<'_, Buffer<N>>,
        ids: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        fn add<T: Copy>(
            src: &[T],
            ids: &[i32],
            sums: &mut [T],
            rows: usize,
            plus: impl Fn(T, T) -> T,
        ) {
            let width = sums.len() / rows.max(1);
            for (i, &id) in ids.iter().enumerate() {
                let row = row_of(id, rows) * width;
                for (sum, &x) in
                    sums[row..row + width].iter_mut().zip(&src[i * width..(i + 1) * width])
                {
                    *sum = plus(*sum, x);
                }
            }
        }
        let (rows, elements, dtype) =
            (dst.layout.shape()[0], dst.layout.shape().elements(), dst.dtype);
        let ids = integers(&ids);
        if dtype == DType::I32 {
            let mut sums = vec![0; elements];
            add(&integers(&src), &ids, &mut sums, rows, i32::wrapping_add);
            write_integers(dst, sums.into_iter());
        } else {
            let mut sums = vec![N::exact(0.0); elements];
            add(&floats(&src), &ids, &mut sums, rows, |a, b| a.binary(BinaryOp::Add, b, dtype));
            write_floats(dst, sums.into_iter());
        }
        Ok(())
    }

    fn write_rows(
        &self,
        src: View<'_, Buffer<N>>,
        ids: View<'_, Buffer<N>>,
        dst: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        for (i, &id) in integers(&ids).iter().enumerate() {
            let from = src.layout.slice(0, i, 1);
            let to = dst.layout.slice(0, row_of(id, dst.layout.shape()[0]), 1);
            let dst = ViewMut { buffer: &mut *dst.buffer, dtype: dst.dtype, layout: &to };
            self.copy(View { layout: &from, ..src }, dst)?;
        }
        Ok(())
    }

    fn top_k(
        &self,
        k: usize,
        src: View<'_, Buffer<N>>,
        values: ViewMut<'_, Buffer<N>>,
        indices: ViewMut<'_, Buffer<N>>,
    ) -> Outcome {
        let (rows, width) = (src.layout.shape()[0], src.layout.shape()[1]);
        let src = floats(&src);
        let (mut best_values, mut best_indices) = (Vec::new(), Vec::new());
        for row in (0..rows).map(|row| &src[row * width..(row + 1) * width]) {
            let mut order: Vec<usize> = (0..width).collect();
            // A stable sort keeps the lower index first among equals.
            order
                .sort_by(|&i, &j| row[j].value().partial_cmp(&row[i].value()).unwrap_or(i.cmp(&j)));
            best_indices.extend(order[..k].iter().map(|&index| index as i32));
            best_values.extend_from_slice(&N::descending(row)[..k]);
        }
        write_floats(values, best_values.into_iter());
        write_integers(indices, best_indices.into_iter());
        Ok(())
    }
}
