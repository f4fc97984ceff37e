//! The kernels of attention by row tables, as in a decoding step: one computes partial results of
//! chunks of keys, another merges them.

use super::{Buckets, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::{Call, Grid};
use tfm_core::DType;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Attention, AttentionOperands, KeyOperands, KeyRows};

/// How many keys a block takes: `CHUNK` of the kernels.
pub(super) const CHUNK: usize = 64;
/// How many warps a block has: `WARPS` of the kernels.
pub(super) const WARPS: usize = 4;
/// The sizes of heads that the kernels with loads of 16 bytes are made for. The kernel with other
/// loads takes every size up to the last of these.
const SIZES: [usize; 3] = [64, 128, 256];

/// Whether there is a kernel for heads of this size and for the op's biases.
pub(super) fn supports(op: &Attention, d_head: usize) -> bool {
    d_head <= SIZES[SIZES.len() - 1] && op.keys.bias.is_none_or(|bias| Buckets::of(bias).is_some())
}

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Attention,
    inputs: &[View<'_, Buffer>],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let (shape, dtype) = (out.layout.shape().clone(), out.dtype);
    let (n, heads, d_head) = (shape[0], shape[1], shape[2]);
    let AttentionOperands { query, keys: KeyOperands { key, value, rows, bias }, .. } =
        op.operands(inputs);
    let KeyRows::Table { row_table: table, lengths } = rows else {
        unreachable!("another file has the kernels for ranges")
    };
    let (rows, width) = (key.layout.shape()[0], table.layout.shape()[1]);
    if shape.elements() == 0 {
        return Ok(());
    }
    let chunks = width.div_ceil(CHUNK).max(1);
    let size = if [query, key, value].iter().all(loads_by_16_bytes) {
        let size = SIZES.into_iter().find(|size| d_head <= *size);
        size.expect("`supports` has seen to it").to_string()
    } else {
        "any".into()
    };
    let buckets = op.keys.bias.and_then(Buckets::of);
    let module = match buckets {
        Some(_) => "row_table_attention_biased",
        None => "row_table_attention",
    };
    let call = cuda.call(module, format!("{}_{size}", typed(module, dtype)));
    let call = [query, key, value].iter().fold(call, heads_of).count(rows);
    let call = call.source(&table).count(width).source(&lengths);
    let call = call.count(d_head).float(op.scale);
    let grid = Grid {
        blocks: [n, heads, chunks],
        threads: 32 * WARPS as u32,
        shared: 4 * (WARPS * (d_head + 2) + if buckets.is_some() { CHUNK } else { 0 }) as u32,
    };
    let with_bias = |call: Call<'_>| match bias.zip(buckets) {
        Some((bias, buckets)) => call.source(&bias).buckets(buckets).launch(grid),
        None => call.launch(grid),
    };
    if chunks == 1 {
        return with_bias(call.target(out).nothing());
    }
    let elements = n * heads * chunks * (d_head + 2);
    let mut partial = cuda.scratch(DType::F32, elements)?;
    with_bias(call.nothing().scratch(&mut partial, elements))?;
    let merge = cuda.call("row_table_attention", typed("merge_chunks", dtype));
    let merge = merge.scratch(&mut partial, elements).source(&lengths).count(width);
    merge.count(heads).count(d_head).count(chunks).target(out).each(shape.elements())
}

/// Adds the argument of an operand `[rows, heads, d_head]`: its pointer, and the strides of rows
/// and heads.
pub(super) fn heads_of<'a>(call: Call<'a>, view: &View<'_, Buffer>) -> Call<'a> {
    let strides = view.layout.strides();
    call.source(view).stride(strides[0]).stride(strides[1])
}

/// Whether every head starts at a multiple of 16 bytes and has a length that is one. The stride of
/// a single row does not count, so that a hypothesis alone is computed as it is among others.
pub(super) fn loads_by_16_bytes(view: &View<'_, Buffer>) -> bool {
    let (layout, width) = (view.layout, 16 / view.dtype.size());
    let between = |axis: usize| if layout.shape()[axis] > 1 { layout.strides()[axis] } else { 0 };
    let steps = [layout.offset(), between(0), between(1), layout.shape()[2]];
    steps.into_iter().all(|step| step % width == 0)
}
