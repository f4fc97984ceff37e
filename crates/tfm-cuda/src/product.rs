//! Matrix products and what follows them. cuBLASLt computes them where it is installed and takes
//! the operands, our own kernels otherwise.

use crate::backend::{CudaBackend, name};
use crate::buffer::Buffer;
use crate::cublaslt::{Addresses, MatrixStorage, Problem, has_activation};
use crate::launch::{Call, Grid};
use smallvec::SmallVec;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::Activation;
use tfm_core::{DType, Layout};

/// Rows and columns of a block's tile; `TILE` of the kernels.
const TILE: usize = 64;

/// The product `f(a·b + bias) + residual`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    /// `[.., m, k]`.
    pub(crate) a: View<'a, Buffer>,
    /// `[.., k, n]`.
    pub(crate) b: View<'a, Buffer>,
    pub(crate) epilogue: Epilogue<'a>,
}

/// What follows a product of two matrices.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// `[n]`, contiguous.
    pub(crate) bias: Option<View<'a, Buffer>>,
    pub(crate) activation: Option<Activation>,
    /// `[m, n]` with contiguous rows.
    pub(crate) residual: Option<View<'a, Buffer>>,
}

/// Computes a product into the contiguous `out [.., m, n]`.
pub(crate) fn run(
    cuda: &CudaBackend,
    product: &Product<'_>,
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    if out.layout.shape().elements() == 0 {
        return Ok(());
    }
    let batches = batches(product.a.layout, product.b.layout);
    if batches.len() > 2 {
        return one_by_one(cuda, product, out);
    }
    if batches.len() <= 1 && by_cublaslt(cuda, product, out, batches.first())? {
        return Ok(());
    }
    by_own_kernel(cuda, product, out, &batches)
}

/// A batch axis: its extent, and the strides of a and b.
#[derive(Clone, Copy)]
struct Axis {
    extent: usize,
    a: usize,
    b: usize,
}

/// The batch axes, joined to as few as the strides allow.
fn batches(a: &Layout, b: &Layout) -> SmallVec<[Axis; 4]> {
    let mut axes: SmallVec<[Axis; 4]> = SmallVec::new();
    for axis in (0..a.shape().len() - 2).filter(|axis| a.shape()[*axis] != 1) {
        let next = Axis { extent: a.shape()[axis], a: a.strides()[axis], b: b.strides()[axis] };
        match axes.last_mut() {
            Some(last) if last.a == next.a * next.extent && last.b == next.b * next.extent => {
                *last = Axis { extent: last.extent * next.extent, ..next };
            }
            _ => axes.push(next),
        }
    }
    axes
}

/// Computes a product that has more batch axes than a kernel takes, one index of the first axis
/// after the other.
fn one_by_one(cuda: &CudaBackend, product: &Product<'_>, out: &mut ViewMut<'_, Buffer>) -> Outcome {
    let shape = out.layout.shape();
    let axis = shape.iter().position(|extent| *extent != 1).expect("there is a batch");
    for i in 0..shape[axis] {
        let [a, b, to] =
            [product.a.layout, product.b.layout, out.layout].map(|x| x.slice(axis, i, 1));
        let part = Product {
            a: View { layout: &a, ..product.a },
            b: View { layout: &b, ..product.b },
            ..*product
        };
        let mut to = ViewMut { buffer: &mut *out.buffer, dtype: out.dtype, layout: &to };
        run(cuda, &part, &mut to)?;
    }
    Ok(())
}

/// The extents m, k and n: rows, terms of each sum, and columns.
fn extents(product: &Product<'_>) -> [usize; 3] {
    let (a, b) = (product.a.layout.shape(), product.b.layout.shape());
    [a[a.len() - 2], a[a.len() - 1], b[b.len() - 1]]
}

/// The strides of a layout's last two axes.
fn strides(layout: &Layout) -> [usize; 2] {
    let strides = layout.strides();
    [strides[strides.len() - 2], strides[strides.len() - 1]]
}

fn by_own_kernel(
    cuda: &CudaBackend,
    product: &Product<'_>,
    out: &mut ViewMut<'_, Buffer>,
    batches: &[Axis],
) -> Outcome {
    let (Product { a, b, epilogue }, dtype) = (product, out.dtype);
    let [m, k, n] = extents(product);
    let none = Axis { extent: 1, a: 0, b: 0 };
    let [outer, inner] = match *batches {
        [outer, inner] => [outer, inner],
        [inner] => [none, inner],
        _ => [none; 2],
    };
    let ([a_row, a_column], [b_row, b_column]) = (strides(a.layout), strides(b.layout));
    let (a_turned, b_turned) = (a_row == 1 && a_column != 1, b_row == 1 && b_column != 1);
    let kernel = match dtype {
        DType::F32 => "matmul_f32".into(),
        _ => {
            let letter = |turned| if turned { 't' } else { 'n' };
            format!("matmul_{}_{}{}", name(dtype), letter(a_turned), letter(b_turned))
        }
    };
    // Whether each 8 elements of 16 bits lie together, at an address that is a multiple of 16
    // bytes.
    let aligned = |layout: &Layout, turned: bool, [row, column]: [usize; 2], steps: [usize; 2]| {
        let (fast, slow) = if turned { (row, column) } else { (column, row) };
        fast == 1 && [slow, layout.offset(), steps[0], steps[1]].iter().all(|step| step % 8 == 0)
    };
    let a_aligned = aligned(a.layout, a_turned, [a_row, a_column], [outer.a, inner.a]);
    let b_aligned = aligned(b.layout, b_turned, [b_row, b_column], [outer.b, inner.b]);
    let call = cuda.call("matmul", kernel);
    let call = call.source(a).stride(outer.a).stride(inner.a).stride(a_row).stride(a_column);
    let call = call.source(b).stride(outer.b).stride(inner.b).stride(b_row).stride(b_column);
    let call = call.count(inner.extent).signed(i32::from(a_aligned) | i32::from(b_aligned) << 1);
    let call = call.target(out).count(m).count(k).count(n);
    let call = epilogue_arguments(call, epilogue);
    let tiles = m.div_ceil(TILE) * n.div_ceil(TILE);
    // Three stages of both operands; or, as f32, the tile of the result.
    let (threads, shared) = match dtype {
        DType::F32 => (256, 4 * TILE * (TILE + 4)),
        _ => (128, 2 * 3 * 2 * TILE * (32 + 8)),
    };
    let blocks = [tiles * outer.extent * inner.extent, 1, 1];
    call.launch(Grid { blocks, threads, shared: shared as u32 })
}

/// Adds all arguments of a kernel's epilogue.
pub(crate) fn epilogue_arguments<'a>(call: Call<'a>, epilogue: &Epilogue<'_>) -> Call<'a> {
    activation_and_residual(call.source_or_nothing(epilogue.bias.as_ref()), epilogue)
}

/// Adds the epilogue's arguments for the activation and the residual.
fn activation_and_residual<'a>(call: Call<'a>, epilogue: &Epilogue<'_>) -> Call<'a> {
    let call = call.signed(match epilogue.activation {
        None => 0,
        Some(Activation::Relu) => 1,
        Some(Activation::Gelu) => 2,
        Some(Activation::GeluTanh) => 3,
        Some(Activation::Swish) => 4,
        Some(Activation::Tanh) => 5,
    });
    match &epilogue.residual {
        Some(residual) => call.source(residual).stride(residual.layout.strides()[0]),
        None => call.nothing().stride(0),
    }
}

/// Computes a product by cuBLASLt. Returns whether the library took it.
fn by_cublaslt(
    cuda: &CudaBackend,
    product: &Product<'_>,
    out: &mut ViewMut<'_, Buffer>,
    batch: Option<&Axis>,
) -> Outcome<bool> {
    let Some(library) = cuda.cublaslt() else { return Ok(false) };
    let (Product { a, b, epilogue }, dtype) = (product, out.dtype);
    let [m, k, n] = extents(product);
    let batch = batch.copied().unwrap_or(Axis { extent: 1, a: 0, b: 0 });
    let (Some(a_storage), Some(b_storage)) =
        (storage(a.layout, batch.a), storage(b.layout, batch.b))
    else {
        return Ok(false);
    };
    if k == 0 {
        return Ok(false);
    }
    // The library adds the residual before the activation.
    let activation = epilogue.activation.filter(|f| has_activation(*f, dtype));
    let plain = epilogue.activation.is_none();
    let residual =
        epilogue.residual.filter(|residual| plain && (m == 1 || residual.layout.strides()[0] >= n));
    let at = |view: &View<'_, Buffer>| {
        view.buffer.expect_inside(view.layout);
        view.buffer.at(view.layout.offset(), cuda.stream())
    };
    out.buffer.expect_inside(out.layout);
    let addresses = Addresses {
        a: at(a),
        b: at(b),
        bias: epilogue.bias.as_ref().map_or(0, at),
        residual: residual.as_ref().map_or(0, at),
        out: out.buffer.at_mut(out.layout.offset(), cuda.stream()),
    };
    let alignment = |address: u64| 1 << address.trailing_zeros().min(4);
    let problem = Problem {
        dtype,
        batches: batch.extent,
        m,
        k,
        n,
        a: a_storage,
        b: b_storage,
        bias: epilogue.bias.is_some(),
        activation,
        residual: residual.map(|view| if m == 1 { n } else { view.layout.strides()[0] }),
        alignments: [
            alignment(addresses.a),
            alignment(addresses.b),
            alignment(if residual.is_some() { addresses.residual } else { addresses.out }),
            alignment(addresses.out).min(alignment(addresses.bias)),
        ],
    };
    if !library.multiply(cuda, &problem, addresses)? {
        return Ok(false);
    }
    let rest = Epilogue {
        bias: None,
        activation: epilogue.activation.filter(|_| activation.is_none()),
        residual: epilogue.residual.filter(|_| residual.is_none()),
    };
    if rest.activation.is_some() || rest.residual.is_some() {
        let call = cuda.call("matmul", format!("finish_{}", name(dtype))).target(out);
        activation_and_residual(call, &rest).count(n).each(m * n)?;
    }
    Ok(true)
}

/// How the library can read a layout's matrices. `None` where neither rows nor columns are
/// contiguous, or where they overlap.
fn storage(layout: &Layout, batch_stride: usize) -> Option<MatrixStorage> {
    let shape = layout.shape();
    let [rows, columns] = [shape[shape.len() - 2], shape[shape.len() - 1]];
    let [row, column] = strides(layout);
    if (columns == 1 || column == 1) && (rows == 1 || row >= columns) {
        let leading = if rows == 1 { columns } else { row };
        return Some(MatrixStorage { column_major: false, leading, batch_stride });
    }
    if (rows == 1 || row == 1) && (columns == 1 || column >= rows) {
        let leading = if columns == 1 { rows } else { column };
        return Some(MatrixStorage { column_major: true, leading, batch_stride });
    }
    None
}

#[cfg(test)]
mod tests;
