//! The linear layer: the product with a transposed weight.

use super::rows;
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::Grid;
use crate::product::{self, Epilogue, Product};
use tfm_core::Layout;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Linear, LinearOperands, Precision};

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Linear,
    operands: LinearOperands<View<'_, Buffer>>,
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let LinearOperands { x, weight, bias, residual } = operands;
    let residual_rows = residual.map(|residual| matrix(residual.layout));
    let epilogue = Epilogue {
        bias,
        activation: op.activation,
        residual: residual
            .zip(residual_rows.as_ref())
            .map(|(residual, layout)| View { layout, ..residual }),
    };
    let result = matrix(out.layout);
    let mut out = ViewMut { buffer: &mut *out.buffer, dtype: out.dtype, layout: &result };
    if op.precision == Precision::Int8 {
        return run_int8(cuda, &x, &weight, &epilogue, &mut out);
    }
    let (x_matrix, transposed) = (matrix(x.layout), weight.layout.permute(&[1, 0]));
    let product = Product {
        a: View { layout: &x_matrix, ..x },
        b: View { layout: &transposed, ..weight },
        epilogue,
    };
    product::run(cuda, &product, &mut out)
}

/// Rows and columns of a block's tile where there are few rows; `FEW` of the kernels.
const FEW: usize = 16;
/// Rows and columns of a block's tile where there are many rows.
const ROWS: usize = 128;
const COLUMNS: usize = 64;
/// The number of large tiles that keeps a device busy, by estimate. With fewer, small tiles are
/// faster.
const ENOUGH_TILES: usize = 64;
/// Bytes of shared memory for three stages of both operands. A step takes 64 inputs, and rows lie
/// 80 bytes apart.
const SHARED: usize = 3 * (ROWS + COLUMNS) * 80;

/// Computes the layer on 8-bit integers into `out [m, n]`.
fn run_int8(
    cuda: &CudaBackend,
    x: &View<'_, Buffer>,
    weight: &View<'_, Buffer>,
    epilogue: &Epilogue<'_>,
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let (m, n) = (out.layout.shape()[0], out.layout.shape()[1]);
    if m == 0 || n == 0 {
        return Ok(());
    }
    let (rows, weights) = (cuda.quantized_rows(x)?, cuda.quantized_weight(weight)?);
    let tiles = m.div_ceil(ROWS) * n.div_ceil(COLUMNS);
    let (kernel, blocks, threads, shared) = if m <= FEW || tiles < ENOUGH_TILES {
        ("linear_int8_few", m.div_ceil(FEW) * n.div_ceil(FEW), 256, 0)
    } else {
        ("linear_int8_many", tiles, 128, SHARED as u32)
    };
    let call = cuda.call("linear_int8", kernel).written(&rows).written(&weights);
    let call = call.target(out).count(m).count(weight.layout.shape()[1]).count(n);
    let call = product::epilogue_arguments(call, epilogue);
    call.launch(Grid { blocks: [blocks, 1, 1], threads, shared })
}

/// Joins all axes but the last into one, so that any layout of rows is a matrix.
fn matrix(layout: &Layout) -> Layout {
    let (rows, columns, stride) = rows(layout);
    Layout::from_parts([rows, columns].into(), &[stride, 1], layout.offset())
}
