//! The kernels of token embeddings.

use super::{pack, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Embedding, Precision};

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Embedding,
    inputs: &[View<'_, Buffer>],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let (entries, width, stride) = rows(inputs[1].layout);
    let quantized;
    let call = if op.precision == Precision::Int8 {
        quantized = cuda.quantized_weight(&inputs[1])?;
        cuda.call("embedding", "embedding_int8").source(&inputs[0]).written(&quantized)
    } else {
        let call = cuda.call("embedding", typed("embedding", out.dtype));
        call.source(&inputs[0]).source(&inputs[1]).stride(stride)
    };
    let call = call.count(entries).float(op.scale);
    let call = if op.positions {
        let (entries, _, stride) = rows(inputs[3].layout);
        call.source(&inputs[2]).source(&inputs[3]).stride(stride).count(entries)
    } else {
        call.nothing().nothing().stride(0).count(0)
    };
    let tokens = out.layout.shape().elements() / width.max(1);
    let packs = tokens * width.div_ceil(pack(out.dtype));
    call.target(out).count(width).each(packs)
}
