//! Products of two operands of any strides.

use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::{DType, Layout};

use crate::CpuBackend;
use crate::buffer::{Buffer, Element, allocate, destination, from_offset, in_order, out_of_memory};
use crate::kernels::matmul::{Matrix, matmul as multiply};

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
    /// Where each matrix begins; `None` if they lie one behind the other.
    starts: Option<Vec<usize>>,
    stride: usize,
    by_rows: bool,
}

impl<'a> Operand<'a> {
    /// The operand as it lies. Returns the view if neither its rows nor its columns are contiguous.
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
