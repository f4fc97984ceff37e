//! The primitive ops over strided views. Floats of every type are computed as blocks of `f32`.

use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::op::{BinaryOp, ReduceOp, UnaryOp};
use tfm_core::{DType, Layout};

use crate::CpuBackend;
use crate::buffer::{Buffer, Element, allocate, destination, from_offset, in_order, out_of_memory};
use crate::kernels::matmul::{Matrix, matmul as multiply};
use crate::kernels::simd::Isa;
use crate::kernels::{elementwise, reduce as sums};
use crate::strided::{self, Run, for_each_run};

/// Elements that are computed at a time.
const BLOCK: usize = 256;

/// Copies a run's elements, from the `from`th on, into a block.
fn load<T: Element>(src: &[T], start: usize, stride: usize, from: usize, block: &mut [f32]) {
    for (i, x) in block.iter_mut().enumerate() {
        *x = src[start + (from + i) * stride].to_f32();
    }
}

/// `dst = op(src)` for floats.
pub(crate) fn unary<T: Element>(
    isa: Isa,
    op: UnaryOp,
    src: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let (layout, x) = (dst.layout, from_offset::<T>(&src));
    let out = destination::<T>(&mut dst);
    for_each_run([layout, src.layout], |Run { starts, strides, len }| {
        let out = &mut out[starts[0]..starts[0] + len];
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let block = &mut [0.0; BLOCK][..out.len()];
            load(x, starts[1], strides[1], i * BLOCK, block);
            elementwise::unary(isa, op, block);
            out.iter_mut().zip(block).for_each(|(out, x)| *out = T::from_f32(*x));
        }
    });
}

/// `dst = op(a, b)` for floats.
pub(crate) fn binary<T: Element>(
    isa: Isa,
    op: BinaryOp,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let (layout, x, y) = (dst.layout, from_offset::<T>(&a), from_offset::<T>(&b));
    let out = destination::<T>(&mut dst);
    for_each_run([layout, a.layout, b.layout], |Run { starts, strides, len }| {
        let out = &mut out[starts[0]..starts[0] + len];
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let (a, b) = (&mut [0.0; BLOCK][..out.len()], &mut [0.0; BLOCK][..out.len()]);
            load(x, starts[1], strides[1], i * BLOCK, a);
            load(y, starts[2], strides[2], i * BLOCK, b);
            elementwise::binary(isa, op, a, b);
            out.iter_mut().zip(a).for_each(|(out, x)| *out = T::from_f32(*x));
        }
    });
}

/// `dst = f(src)` for integers.
pub(crate) fn unary_i32(f: fn(i32) -> i32, src: View<'_, Buffer>, mut dst: ViewMut<'_, Buffer>) {
    let x = in_order::<i32>(&src);
    let out = destination::<i32>(&mut dst);
    out.iter_mut().zip(&*x).for_each(|(out, &x)| *out = f(x));
}

/// `dst = f(a, b)` for integers.
pub(crate) fn binary_i32(
    f: fn(i32, i32) -> i32,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let (x, y) = (in_order::<i32>(&a), in_order::<i32>(&b));
    let out = destination::<i32>(&mut dst);
    out.iter_mut().zip(x.iter().zip(&*y)).for_each(|(out, (&x, &y))| *out = f(x, y));
}

/// `dst = condition ≠ 0 ? a : b`.
pub(crate) fn select<C: Element, T: Element>(
    condition: View<'_, Buffer>,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let (layout, c) = (dst.layout, from_offset::<C>(&condition));
    let (x, y) = (from_offset::<T>(&a), from_offset::<T>(&b));
    let out = destination::<T>(&mut dst);
    let layouts = [layout, condition.layout, a.layout, b.layout];
    for_each_run(layouts, |Run { starts: [to, sc, sx, sy], strides: [_, dc, dx, dy], len }| {
        for (i, out) in out[to..to + len].iter_mut().enumerate() {
            let chosen = c[sc + i * dc].to_f32() != 0.0;
            *out = if chosen { x[sx + i * dx] } else { y[sy + i * dy] };
        }
    });
}

/// Reduces one axis; see [`tfm_core::Backend::reduce`].
pub(crate) fn reduce<T: Element>(
    isa: Isa,
    op: ReduceOp,
    axis: usize,
    src: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let data = from_offset::<T>(&src);
    let (extent, stride) = (src.layout.shape()[axis], src.layout.strides()[axis]);
    let lines = line_starts(src.layout, axis);
    let out = destination::<T>(&mut dst);
    for (out, start) in out.iter_mut().zip(lines) {
        let mut total = if op == ReduceOp::Sum { 0.0 } else { f32::NEG_INFINITY };
        for from in (0..extent).step_by(BLOCK) {
            let block = &mut [0.0; BLOCK][..BLOCK.min(extent - from)];
            load(data, start, stride, from, block);
            match op {
                ReduceOp::Sum => total += sums::sum(isa, block),
                ReduceOp::Max => total = block.iter().fold(total, |max, &x| max.max(x)),
            }
        }
        *out = T::from_f32(total);
    }
}

/// [`reduce`] of integers.
pub(crate) fn reduce_i32(
    op: ReduceOp,
    axis: usize,
    src: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let data = from_offset::<i32>(&src);
    let (extent, stride) = (src.layout.shape()[axis], src.layout.strides()[axis]);
    let lines = line_starts(src.layout, axis);
    let out = destination::<i32>(&mut dst);
    for (out, start) in out.iter_mut().zip(lines) {
        let line = (0..extent).map(|j| data[start + j * stride]);
        *out = match op {
            ReduceOp::Sum => line.fold(0, i32::wrapping_add),
            ReduceOp::Max => line.max().unwrap_or(i32::MIN),
        };
    }
}

/// Where the lines along an axis begin, from the layout's first element, in row-major order.
fn line_starts(layout: &Layout, axis: usize) -> Vec<usize> {
    let shape = layout.shape().with_extent(axis, 1);
    let starts = Layout::from_parts(shape, layout.strides(), 0);
    starts.positions().collect()
}

/// Batched products; see [`tfm_core::Backend::matmul`].
pub(crate) fn matmul(
    cpu: &CpuBackend,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    dst: ViewMut<'_, Buffer>,
) -> Outcome {
    match dst.dtype {
        DType::F32 => matmul_f32(cpu, a, b, dst),
        DType::F16 => matmul_by_f32::<half::f16>(cpu, a, b, dst),
        DType::BF16 => matmul_by_f32::<half::bf16>(cpu, a, b, dst),
        DType::I32 => unreachable!("products are of floats"),
    }
}

fn matmul_by_f32<T: Element>(
    cpu: &CpuBackend,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) -> Outcome {
    let wide = |view: View<'_, Buffer>| {
        let mut wide = allocate(DType::F32, view.layout.shape().elements())?;
        f32::slice_mut(&mut wide)
            .iter_mut()
            .zip(&*in_order::<T>(&view))
            .for_each(|(wide, x)| *wide = x.to_f32());
        Ok(wide)
    };
    let (wide_a, wide_b) = (wide(a)?, wide(b)?);
    let [a_layout, b_layout, layout] =
        [a.layout, b.layout, dst.layout].map(|layout| Layout::contiguous(layout.shape()));
    let mut product = allocate(DType::F32, layout.shape().elements())?;
    matmul_f32(
        cpu,
        View { buffer: &wide_a, dtype: DType::F32, layout: &a_layout },
        View { buffer: &wide_b, dtype: DType::F32, layout: &b_layout },
        ViewMut { buffer: &mut product, dtype: DType::F32, layout: &layout },
    )?;
    let out = destination::<T>(&mut dst);
    out.iter_mut().zip(f32::slice(&product)).for_each(|(out, x)| *out = T::from_f32(*x));
    Ok(())
}

fn matmul_f32(
    cpu: &CpuBackend,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) -> Outcome {
    let rank = a.layout.shape().len();
    let (m, k) = (a.layout.shape()[rank - 2], a.layout.shape()[rank - 1]);
    let n = b.layout.shape()[rank - 1];
    let (a_copy, b_copy);
    let (a, b) = (Operand::new(&a), Operand::new(&b));
    let (a, b) = match (a, b) {
        (Ok(a), Ok(b)) => (a, b),
        (a, b) => {
            a_copy = a.as_ref().err().map(|view| in_order::<f32>(view));
            b_copy = b.as_ref().err().map(|view| in_order::<f32>(view));
            let whole = |copy, columns| Operand {
                data: copy,
                starts: None,
                stride: columns,
                by_rows: true,
            };
            (
                a.unwrap_or_else(|_| whole(a_copy.as_deref().unwrap_or_default(), k)),
                b.unwrap_or_else(|_| whole(b_copy.as_deref().unwrap_or_default(), n)),
            )
        }
    };
    let batches = dst.layout.shape()[..rank - 2].iter().product();
    let pairs: Vec<_> = (0..batches).map(|i| (a.matrix(i, m * k), b.matrix(i, k * n))).collect();
    let out = destination::<f32>(&mut dst);
    multiply(cpu.isa, &cpu.threads, &cpu.scratch, [m, k, n], &pairs, out)
        .map_err(|_| out_of_memory(size_of::<f32>() * k * n))
}

/// The matrices of one operand of a batched product.
struct Operand<'a> {
    data: &'a [f32],
    /// Where each matrix begins; `None` for one behind the other.
    starts: Option<Vec<usize>>,
    stride: usize,
    by_rows: bool,
}

impl<'a> Operand<'a> {
    /// The operand as it lies, or the view back where neither rows nor columns are contiguous.
    fn new<'v>(view: &'v View<'a, Buffer>) -> Result<Self, &'v View<'a, Buffer>> {
        let layout = view.layout;
        let (shape, strides) = (layout.shape(), layout.strides());
        let (outer, rank) = (shape.len() - 2, shape.len());
        let (rows, cols) = (shape[rank - 2], shape[rank - 1]);
        let (row_stride, col_stride) = (strides[rank - 2], strides[rank - 1]);
        let by_rows = cols <= 1 || col_stride == 1;
        if !by_rows && rows > 1 && row_stride != 1 {
            return Err(view);
        }
        let outer = Layout::from_parts(shape[..outer].into(), &strides[..outer], 0);
        Ok(Operand {
            data: from_offset::<f32>(view),
            starts: Some(outer.positions().collect()),
            stride: if by_rows { row_stride } else { col_stride },
            by_rows,
        })
    }

    fn matrix(&self, i: usize, size: usize) -> Matrix<'a> {
        let start = self.starts.as_ref().map_or(i * size, |starts| starts[i]);
        let data = &self.data[start.min(self.data.len())..];
        Matrix { data, stride: self.stride, by_rows: self.by_rows }
    }
}

/// `dst[i…, :] = table[ids[i…], :]`.
pub(crate) fn gather<T: Element>(
    table: View<'_, Buffer>,
    ids: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let rows = RowLayout::new(table.layout);
    let data = from_offset::<T>(&table);
    let ids = in_order::<i32>(&ids);
    let out = destination::<T>(&mut dst);
    let packed = Layout::contiguous(rows.row.shape());
    let width = packed.shape().elements();
    if width == 0 {
        return;
    }
    for (out, &id) in out.chunks_exact_mut(width).zip(&*ids) {
        strided::copy(&data[rows.start(id)..], &rows.row, out, &packed);
    }
}

/// `dst[ids[i], :] = src[i, :]`.
pub(crate) fn write_rows<T: Element>(
    src: View<'_, Buffer>,
    ids: View<'_, Buffer>,
    dst: ViewMut<'_, Buffer>,
) {
    let (from, to) = (RowLayout::new(src.layout), RowLayout::new(dst.layout));
    if from.row.shape().contains(&0) {
        return;
    }
    let data = from_offset::<T>(&src);
    let out = &mut T::slice_mut(dst.buffer)[dst.layout.offset()..];
    for (i, &id) in in_order::<i32>(&ids).iter().enumerate() {
        strided::copy(&data[i * from.stride..], &from.row, &mut out[to.start(id)..], &to.row);
    }
}

/// `dst = 0`, then `dst[ids[i], :] += src[i, :]`; `add` rounds to the element type.
pub(crate) fn scatter_add<T: Element>(
    add: fn(T, T) -> T,
    src: View<'_, Buffer>,
    ids: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let rows = RowLayout::new(dst.layout);
    let width = rows.row.shape().elements();
    let (src, ids) = (in_order::<T>(&src), in_order::<i32>(&ids));
    let out = destination::<T>(&mut dst);
    out.fill(T::default());
    if width == 0 {
        return;
    }
    for (src, &id) in src.chunks_exact(width).zip(&*ids) {
        let start = rows.start(id);
        for (sum, &x) in out[start..start + width].iter_mut().zip(src) {
            *sum = add(*sum, x);
        }
    }
}

/// The first axis of a layout apart from the others.
struct RowLayout {
    rows: usize,
    stride: usize,
    row: Layout,
}

impl RowLayout {
    fn new(layout: &Layout) -> RowLayout {
        let (shape, strides) = (layout.shape(), layout.strides());
        let row = Layout::from_parts(shape[1..].into(), &strides[1..], 0);
        RowLayout { rows: shape[0], stride: strides[0], row }
    }

    /// Where a row begins. Panics for a row that does not exist.
    fn start(&self, id: i32) -> usize {
        let row = usize::try_from(id).unwrap_or(usize::MAX);
        assert!(row < self.rows, "row {id} of {}", self.rows);
        row * self.stride
    }
}
