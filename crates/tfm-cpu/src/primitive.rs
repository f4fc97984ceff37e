//! The primitive ops over strided views. Floats of every type are computed in blocks of `f32`.

use tfm_core::Layout;
use tfm_core::backend::{View, ViewMut};
use tfm_core::op::{BinaryOp, ReduceOp, UnaryOp};

use crate::CpuBackend;
use crate::buffer::{Buffer, Element, destination, from_offset, in_order};
use crate::kernels::threads::Threads;
use crate::kernels::{self, elementwise};
use crate::strided::{self, Run, for_each_run};

/// Elements that are computed together.
const BLOCK: usize = 256;

/// Copies a run's elements, beginning with the `from`th, into a block.
fn load<T: Element>(src: &[T], start: usize, stride: usize, from: usize, block: &mut [f32]) {
    if stride == 1 {
        let src = &src[start + from..][..block.len()];
        block.iter_mut().zip(src).for_each(|(x, src)| *x = src.to_f32());
        return;
    }
    for (i, x) in block.iter_mut().enumerate() {
        *x = src[start + (from + i) * stride].to_f32();
    }
}

/// Divides an element-wise op among the threads. `part` gets a part of the output, and the layouts
/// of the sources' parts, which begin at their offsets. `work` is the number of operations for an
/// element.
fn divided<T: Element, const N: usize>(
    threads: &Threads,
    sources: [&Layout; N],
    out: &mut [T],
    work: usize,
    part: impl Fn(&mut [T], [Layout; N]) + Sync,
) {
    if out.is_empty() {
        return;
    }
    // If everything is contiguous it is divided anywhere, otherwise along the first axis.
    let flat = sources.iter().all(|layout| layout.is_contiguous());
    let sources = sources.map(|layout| {
        if flat {
            Layout::contiguous(&[out.len()].into())
        } else {
            Layout::from_parts(layout.shape().clone(), layout.strides(), 0)
        }
    });
    let row_len = out.len() / sources[0].shape()[0];
    threads.rows(out, row_len, work * row_len, |range, out| {
        part(out, sources.each_ref().map(|layout| layout.slice(0, range.start, range.len())));
    });
}

/// `dst = op(src)` for floats.
pub(crate) fn unary<T: Element>(
    cpu: &CpuBackend,
    op: UnaryOp,
    src: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let x = from_offset::<T>(&src);
    let out = destination::<T>(&mut dst);
    divided(&cpu.threads, [src.layout], out, 20, |out, [layout]| {
        let ordered = Layout::contiguous(layout.shape());
        for_each_run([&ordered, &layout], |Run { starts, strides, len }| {
            let out = &mut out[starts[0]..starts[0] + len];
            for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                let block = &mut [0.0; BLOCK][..out.len()];
                load(x, layout.offset() + starts[1], strides[1], i * BLOCK, block);
                elementwise::unary(cpu.isa, op, block);
                out.iter_mut().zip(block).for_each(|(out, x)| *out = T::from_f32(*x));
            }
        });
    });
}

/// `dst = op(a, b)` for floats.
pub(crate) fn binary<T: Element>(
    cpu: &CpuBackend,
    op: BinaryOp,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let (x, y) = (from_offset::<T>(&a), from_offset::<T>(&b));
    let out = destination::<T>(&mut dst);
    divided(&cpu.threads, [a.layout, b.layout], out, 8, |out, [a, b]| {
        let (x, y) = (&x[a.offset()..], &y[b.offset()..]);
        let ordered = Layout::contiguous(a.shape());
        for_each_run([&ordered, &a, &b], |Run { starts, strides, len }| {
            let out = &mut out[starts[0]..starts[0] + len];
            for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                let (a, b) = (&mut [0.0; BLOCK][..out.len()], &mut [0.0; BLOCK][..out.len()]);
                load(x, starts[1], strides[1], i * BLOCK, a);
                load(y, starts[2], strides[2], i * BLOCK, b);
                elementwise::binary(cpu.isa, op, a, b);
                out.iter_mut().zip(a).for_each(|(out, x)| *out = T::from_f32(*x));
            }
        });
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
    threads: &Threads,
    condition: View<'_, Buffer>,
    a: View<'_, Buffer>,
    b: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let c = from_offset::<C>(&condition);
    let (x, y) = (from_offset::<T>(&a), from_offset::<T>(&b));
    let out = destination::<T>(&mut dst);
    let layouts = [condition.layout, a.layout, b.layout];
    divided(threads, layouts, out, 8, |out, [c_part, a, b]| {
        let (c, x, y) = (&c[c_part.offset()..], &x[a.offset()..], &y[b.offset()..]);
        let layouts = [&Layout::contiguous(a.shape()), &c_part, &a, &b];
        for_each_run(layouts, |Run { starts: [to, sc, sx, sy], strides, len }| {
            let out = &mut out[to..to + len];
            if strides == [1; 4] {
                let chosen = x[sx..sx + len].iter().zip(&y[sy..sy + len]);
                let chosen = c[sc..sc + len].iter().zip(chosen);
                for (out, (c, (&x, &y))) in out.iter_mut().zip(chosen) {
                    *out = if c.to_f32() != 0.0 { x } else { y };
                }
                return;
            }
            let [_, dc, dx, dy] = strides;
            for (i, out) in out.iter_mut().enumerate() {
                let chosen = c[sc + i * dc].to_f32() != 0.0;
                *out = if chosen { x[sx + i * dx] } else { y[sy + i * dy] };
            }
        });
    });
}

/// Reduces one axis of floats; see [`tfm_core::Backend::reduce`].
pub(crate) fn reduce<T: Element>(
    cpu: &CpuBackend,
    op: ReduceOp,
    axis: usize,
    src: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let wide: Vec<f32> = in_order::<T>(&src).iter().map(|x| x.to_f32()).collect();
    let out = destination::<T>(&mut dst);
    let mut results = vec![0.0; out.len()];
    reduce_in_order(cpu, op, axis, src.layout, &wide, &mut results);
    out.iter_mut().zip(results).for_each(|(out, x)| *out = T::from_f32(x));
}

/// [`reduce`] of `f32`.
pub(crate) fn reduce_f32(
    cpu: &CpuBackend,
    op: ReduceOp,
    axis: usize,
    src: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let out = destination::<f32>(&mut dst);
    reduce_in_order(cpu, op, axis, src.layout, &in_order(&src), out);
}

fn reduce_in_order(
    cpu: &CpuBackend,
    op: ReduceOp,
    axis: usize,
    layout: &Layout,
    x: &[f32],
    out: &mut [f32],
) {
    let shape = layout.shape();
    let outer = shape[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product();
    let extents = [outer, shape[axis], inner];
    match op {
        ReduceOp::Sum => kernels::reduce::sum(cpu.isa, &cpu.threads, x, extents, out),
        ReduceOp::Max => kernels::reduce::max(cpu.isa, &cpu.threads, x, extents, out),
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

/// Where the lines along an axis begin, relative to the layout's first element, in row-major order.
fn line_starts(layout: &Layout, axis: usize) -> Vec<usize> {
    let shape = layout.shape().with_extent(axis, 1);
    let starts = Layout::from_parts(shape, layout.strides(), 0);
    starts.positions().collect()
}

/// `dst[i…, :] = table[ids[i…], :]`.
pub(crate) fn gather<T: Element>(
    threads: &Threads,
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
    threads.rows(out, width, 8 * width, |range, out| {
        for (out, &id) in out.chunks_exact_mut(width).zip(&ids[range]) {
            strided::copy(&data[rows.start(id)..], &rows.row, out, &packed);
        }
    });
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

/// [`scatter_add`] of `f32`.
pub(crate) fn scatter_add_f32(
    cpu: &CpuBackend,
    src: View<'_, Buffer>,
    ids: View<'_, Buffer>,
    mut dst: ViewMut<'_, Buffer>,
) {
    let width = RowLayout::new(dst.layout).row.shape().elements();
    let (src, ids) = (in_order(&src), in_order(&ids));
    let out = destination(&mut dst);
    kernels::scatter::scatter_add(cpu.isa, &cpu.threads, &src, &ids, width, out);
}

/// A layout whose first axis is separate from the others.
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

    /// Where a row begins. Panics if there is no such row.
    fn start(&self, id: i32) -> usize {
        let row = usize::try_from(id).unwrap_or(usize::MAX);
        assert!(row < self.rows, "row {id} of {}", self.rows);
        row * self.stride
    }
}
