//! The kernels of token embeddings.

use super::{pack, rows, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Embedding, EmbeddingOperands, Precision};

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Embedding,
    inputs: &[View<'_, Buffer>],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let EmbeddingOperands { ids, table, positions, position_table } = op.operands(inputs);
    let (entries, width, stride) = rows(table.layout);
    let quantized;
    let call = if op.precision == Precision::Int8 {
        quantized = cuda.quantized_weight(&table)?;
        cuda.call("embedding", "embedding_int8").source(&ids).written(&quantized)
    } else {
        let call = cuda.call("embedding", typed("embedding", out.dtype));
        call.source(&ids).source(&table).stride(stride)
    };
    let call = call.count(entries).float(op.scale);
    let call = if let Some((positions, table)) = positions.zip(position_table) {
        let (entries, _, stride) = rows(table.layout);
        call.source(&positions).source(&table).stride(stride).count(entries)
    } else {
        call.nothing().nothing().stride(0).count(0)
    };
    let tokens = out.layout.shape().elements() / width.max(1);
    let packs = tokens * width.div_ceil(pack(out.dtype));
    call.target(out).count(width).each(packs)
}
