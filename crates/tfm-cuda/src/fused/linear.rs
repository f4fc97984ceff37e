//! The linear layer: a product with a transposed weight.

use super::rows;
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::product::{self, Following, Product};
use tfm_core::Layout;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::Linear;

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Linear,
    inputs: &[View<'_, Buffer>],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let (x, weight) = (matrix(inputs[0].layout), inputs[1].layout.permute(&[1, 0]));
    let residual = op.residual.then(|| inputs[inputs.len() - 1]);
    let residual_rows = residual.map(|residual| matrix(residual.layout));
    let result = matrix(out.layout);
    let product = Product {
        a: View { layout: &x, ..inputs[0] },
        b: View { layout: &weight, ..inputs[1] },
        following: Following {
            bias: op.bias.then(|| inputs[2]),
            activation: op.activation,
            residual: residual
                .zip(residual_rows.as_ref())
                .map(|(residual, layout)| View { layout, ..residual }),
        },
    };
    let mut out = ViewMut { buffer: &mut *out.buffer, dtype: out.dtype, layout: &result };
    product::run(cuda, &product, &mut out)
}

/// Rows of any number of axes as those of a matrix.
fn matrix(layout: &Layout) -> Layout {
    let (rows, columns, stride) = rows(layout);
    Layout::from_parts([rows, columns].into(), &[stride, 1], layout.offset())
}
