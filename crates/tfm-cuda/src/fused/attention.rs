//! The kernels of attention over ranges, and of its gradient. Those of tiles use tensor cores and
//! take half precision. Plain ones take everything else.

use super::{Buckets, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::{Call, Grid};
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{
    Attention, AttentionGradient, AttentionGradientOperands, AttentionOperands, KeyRows,
};
use tfm_core::op::ReduceOp;
use tfm_core::{DType, Layout, Shape as Extents};

/// The largest size of heads that the kernels take.
pub(super) const LARGEST: usize = 256;
/// The sizes that the kernels of tiles are made for. Other sizes are padded to the next.
const PADDED: [usize; 5] = [32, 64, 96, 128, 256];
/// The sizes that the kernels of tiles with biases are made for.
const PADDED_BIASED: [usize; 2] = [64, 128];
/// Bytes of shared memory that every device has for a block.
const MOST_SHARED: usize = 99 << 10;
/// Elements of half precision in 16 bytes, which one copy moves.
const CHUNK: usize = 8;

/// The operands of a call.
type Operands<'a> = AttentionOperands<View<'a, Buffer>>;

/// The shape of a call.
#[derive(Debug, Clone, Copy)]
struct Shape {
    queries: usize,
    rows: usize,
    sequences: usize,
    heads: usize,
    size: usize,
    dropout: bool,
    /// The distances whose biases a block has in its memory; 0 without biases.
    distances: usize,
}

/// Whether the op has no attributes but those that all kernels take.
pub(super) fn is_plain(op: &Attention) -> bool {
    let dropout_of_sums = op.dropout.is_none() || op.gives_sums();
    let plain = op.soft_cap.is_none() && op.keys.window.is_none() && op.more_keys.is_none();
    plain && dropout_of_sums
}

/// Whether there is a kernel for heads of this size and for the op's biases.
pub(super) fn supports(op: &Attention, size: usize) -> bool {
    (1..=LARGEST).contains(&size) && op.keys.bias.is_none_or(|bias| Buckets::of(bias).is_some())
}

/// Whether there are kernels for the gradient. Where heads are large and biases reach far, a block
/// has too little memory for the plain ones.
pub(super) fn supports_gradient(op: &Attention, size: usize) -> bool {
    let distances = distances(op);
    supports(op, size)
        && Kernels::Plain.query_gradient_shared(size, false, distances) <= MOST_SHARED
}

fn distances(op: &Attention) -> usize {
    op.keys.bias.and_then(Buckets::of).map_or(0, |buckets| buckets.distances())
}

impl Shape {
    fn of(operands: &Operands<'_>, op: &Attention) -> Shape {
        let query = operands.query.layout.shape();
        let [_, key_ranges] = ranges(operands);
        Shape {
            queries: query[0],
            rows: operands.keys.key.layout.shape()[0],
            sequences: key_ranges.layout.shape()[0],
            heads: query[1],
            size: query[2],
            dropout: op.dropout.is_some(),
            distances: distances(op),
        }
    }

    fn query_blocks(&self, tile: usize) -> usize {
        query_blocks(self.queries, self.sequences, tile)
    }
}

/// How many blocks the queries take. The kernels' `tile_of` finds the sequence and tile of a block.
pub(super) fn query_blocks(queries: usize, sequences: usize, tile: usize) -> usize {
    if queries == 0 || sequences == 0 {
        return 0;
    }
    queries / tile + sequences
}

/// Whether the kernels of tiles can load rows of these layouts: heads of half precision, in whole
/// 16 bytes at multiples of 16 bytes.
pub(super) fn fits_tiles<'a>(
    dtype: DType,
    size: usize,
    layouts: impl IntoIterator<Item = &'a Layout>,
) -> bool {
    let aligned = |layout: &Layout| {
        let outer = layout.shape().iter().zip(layout.strides()).take(2);
        layout.offset().is_multiple_of(CHUNK)
            && outer.filter(|(n, _)| **n > 1).all(|(_, stride)| stride.is_multiple_of(CHUNK))
    };
    matches!(dtype, DType::F16 | DType::BF16)
        && size.is_multiple_of(CHUNK)
        && layouts.into_iter().all(aligned)
}

/// Bytes of a row in the shared memory of the plain kernels.
pub(super) fn plain_row(size: usize) -> usize {
    4 * 4 * (size.div_ceil(4) | 1)
}

/// Offsets of the queries and ranges of the keys.
fn ranges<'a>(operands: &Operands<'a>) -> [View<'a, Buffer>; 2] {
    match operands.keys.rows {
        KeyRows::Ranges { query_offsets, key_ranges } => [query_offsets, key_ranges],
        KeyRows::Table { .. } => unreachable!("another file has the kernels for tables"),
    }
}

/// Which kernels compute a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernels {
    /// Those of tiles, with heads padded to this size.
    Tiles(usize),
    Plain,
}

/// The sizes and bytes of shared memory here are those of `attention_forward.cuh`,
/// `attention_gradient.cuh` and `attention_plain.cuh`.
impl Kernels {
    /// Tiles need half precision, 16-byte aligned rows, and scores that grow with the products.
    fn of(op: &Attention, operands: &[View<'_, Buffer>], results: &[&Layout]) -> Kernels {
        let [view, ..] = operands else { return Kernels::Plain };
        let size = view.layout.shape()[2];
        let layouts = operands.iter().map(|view| view.layout).chain(results.iter().copied());
        let padded = if op.keys.bias.is_some() { &PADDED_BIASED[..] } else { &PADDED[..] };
        match padded.iter().copied().find(|padded| size <= *padded) {
            Some(padded) if op.scale > 0.0 && fits_tiles(view.dtype, size, layouts) => {
                Kernels::Tiles(padded)
            }
            _ => Kernels::Plain,
        }
    }

    /// Rows of a block.
    fn tile(self) -> usize {
        match self {
            Kernels::Tiles(_) => 64,
            Kernels::Plain => 32,
        }
    }

    fn threads(self) -> u32 {
        match self {
            Kernels::Tiles(_) => 128,
            Kernels::Plain => 256,
        }
    }

    /// Bytes of a row in shared memory.
    fn row(self, size: usize) -> usize {
        match self {
            Kernels::Tiles(padded) => 2 * (padded + 8),
            Kernels::Plain => plain_row(size),
        }
    }

    fn forward_shared(self, shape: &Shape) -> usize {
        let (row, biases) = (self.row(shape.size), 4 * shape.distances);
        let Kernels::Tiles(padded) = self else { return 2 * 32 * row + biases };
        let (keys, queries) = if padded > 128 { (16, 64) } else { (64, 0) };
        (4 * keys + queries) * row + biases + if shape.dropout { 64 * (keys + 4) } else { 0 }
    }

    /// Bytes of shared memory of the gradient of keys and values.
    fn key_gradient_shared(self, size: usize, dropout: bool, distances: usize) -> usize {
        let (row, biases) = (self.row(size), 4 * distances);
        let Kernels::Tiles(padded) = self else { return 3 * 32 * row + biases };
        let (stream, stages) = if padded > 128 { (16, 1) } else { (32, 2) };
        // The masks of 64 queries and the keys that pass by, or of 64 keys and the queries.
        let masks = if dropout { (64 * (stream + 4)).max(stream * (64 + 4)) } else { 0 };
        (2 * 64 + 2 * stages * stream) * row + stages * stream * 8 + 16 + biases + masks
    }

    /// Bytes of shared memory of the gradient of queries. With biases it also sums their gradients:
    /// it has these sums, and a tile of the scores' gradients, whose rows are 9 elements longer
    /// than there are keys.
    fn query_gradient_shared(self, size: usize, dropout: bool, distances: usize) -> usize {
        let all = self.key_gradient_shared(size, dropout, distances);
        let tile = match self {
            _ if distances == 0 => 0,
            Kernels::Tiles(_) => 4 * 64 * (32 + 9),
            // What this needs beyond the last of the three tiles, whose memory it takes.
            Kernels::Plain => (4 * 32 * (32 + 9)).max(32 * self.row(size)) - 32 * self.row(size),
        };
        all + 4 * distances + tile
    }

    fn grid(self, shape: &Shape, x: usize, shared: usize) -> Grid {
        Grid { blocks: [x, shape.heads, 1], threads: self.threads(), shared: shared as u32 }
    }

    /// A kernel, named for what it computes.
    fn call<'a>(self, cuda: &'a CudaBackend, what: &str, dtype: DType, biased: bool) -> Call<'a> {
        let biased_name = if biased { "_biased" } else { "" };
        match self {
            Kernels::Tiles(padded) => {
                let module = match what {
                    _ if biased => "attention_biased",
                    "" => "attention_forward",
                    _ => "attention_gradient",
                };
                let name = typed(&format!("attention{biased_name}{what}"), dtype);
                cuda.call(module, format!("{name}_{padded}"))
            }
            Kernels::Plain => {
                let module = if biased { "attention_plain_biased" } else { "attention_plain" };
                cuda.call(module, typed(&format!("{module}{what}"), dtype))
            }
        }
    }
}

/// The arguments that all kernels begin with: `ATTENTION_ARGUMENTS`.
fn arguments<'a>(
    mut call: Call<'a>,
    op: &Attention,
    shape: &Shape,
    operands: &Operands<'_>,
) -> Call<'a> {
    for view in [operands.query, operands.keys.key, operands.keys.value] {
        let strides = view.layout.strides();
        call = call.source(&view).stride(strides[0]).stride(strides[1]);
    }
    let [query_offsets, key_ranges] = ranges(operands);
    let call = call.source(&query_offsets).source(&key_ranges);
    let call = call.count(shape.sequences).count(shape.queries).count(shape.rows).count(shape.size);
    let call = call.signed(i32::from(op.keys.causal)).float(op.scale);
    with_dropout(call, op, operands.random_key)
}

/// Adds the arguments of the dropout: `Dropout` of the kernels.
pub(super) fn with_dropout<'a>(
    call: Call<'a>,
    op: &Attention,
    random_key: Option<View<'_, Buffer>>,
) -> Call<'a> {
    match (op.dropout, random_key) {
        (Some(mask), Some(key)) => {
            // A random number is k/2^24. It is below the rate where k is below this threshold.
            let threshold = (f64::from(mask.rate) * f64::from(1 << 24)).ceil();
            call.source(&key).bits(mask.stream).bits(threshold as u32).float(mask.scale())
        }
        _ => call.nothing().bits(0).bits(0).float(1.0),
    }
}

/// Adds the arguments of biases, if there are any.
fn with_biases<'a>(call: Call<'a>, op: &Attention, operands: &Operands<'_>) -> Call<'a> {
    match operands.keys.bias.zip(op.keys.bias.and_then(Buckets::of)) {
        Some((bias, buckets)) => call.source(&bias).buckets(buckets),
        None => call,
    }
}

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Attention,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let operands = op.operands(inputs);
    let shape = Shape::of(&operands, op);
    let views = [operands.query, operands.keys.key, operands.keys.value];
    let kernels = Kernels::of(op, &views, &[outputs[0].layout]);
    let call = kernels.call(cuda, "", operands.query.dtype, op.keys.bias.is_some());
    let call = arguments(call, op, &shape, &operands);
    let [context, sums] = outputs else { unreachable!("attention in ranges has two results") };
    let blocks = shape.query_blocks(kernels.tile());
    let grid = kernels.grid(&shape, blocks, kernels.forward_shared(&shape));
    with_biases(call.target(context).target(sums), op, &operands).launch(grid)
}

pub(super) fn gradient(
    cuda: &CudaBackend,
    gradient: &AttentionGradient,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let AttentionGradientOperands { forward, context, log_sum_exp, d_context } =
        gradient.operands(inputs);
    let op = &gradient.0;
    let shape = Shape::of(&forward, op);
    let dtype = forward.query.dtype;
    // log Σ exp and rowsum(dO∘O) of each query, by heads.
    let pairs = shape.queries * shape.heads;
    let mut memory = cuda.scratch(DType::F32, 2 * pairs)?;
    let call = cuda.call("attention_plain", typed("attention_rows", dtype));
    let call = call.source(&context).source(&log_sum_exp).source(&d_context);
    let call = call.count(shape.queries).count(shape.heads).count(shape.size);
    let grid = Grid { blocks: [pairs.div_ceil(8), 1, 1], threads: 256, shared: 0 };
    call.scratch(&mut memory, 2 * pairs).count(pairs).launch(grid)?;

    let views = [forward.query, forward.keys.key, forward.keys.value, d_context];
    let results: Vec<_> = outputs[..3].iter().map(|output| output.layout).collect();
    let kernels = Kernels::of(op, &views, &results);
    let mut begin = |what| {
        let call = kernels.call(cuda, what, dtype, op.keys.bias.is_some());
        let call = arguments(call, op, &shape, &forward);
        call.source(&d_context).scratch(&mut memory, 2 * pairs)
    };
    let (size, dropout, distances) = (shape.size, shape.dropout, shape.distances);
    let (of_operands, of_bias) = outputs.split_at_mut(3);
    let [d_query, d_key, d_value] = of_operands else { unreachable!("there are three gradients") };

    let shared = kernels.query_gradient_shared(size, dropout, distances);
    let blocks = shape.query_blocks(kernels.tile());
    let grid = kernels.grid(&shape, blocks, shared);
    let call = with_biases(begin("_query_gradient").target(d_query), op, &forward);
    match of_bias {
        [d_bias] => {
            let width = shape.heads * distances;
            let mut sums = cuda.scratch(DType::F32, blocks * width)?;
            call.scratch(&mut sums, blocks * width).launch(grid)?;
            let layout = Layout::contiguous(&Extents::from([blocks, width]));
            let sums = View { buffer: &*sums, dtype: DType::F32, layout: &layout };
            bias_gradient(cuda, op, sums, shape.heads, d_bias)?;
        }
        _ => call.launch(grid)?,
    }

    let shared = kernels.key_gradient_shared(size, dropout, distances);
    let mut grid = kernels.grid(&shape, shape.rows.div_ceil(kernels.tile()), shared);
    if kernels == Kernels::Tiles(256) {
        grid.blocks[2] = 2;
    }
    let call = begin("_key_gradient").target(d_key).target(d_value);
    with_biases(call, op, &forward).launch(grid)
}

/// The gradient of biases, from the blocks' sums of the gradients of scores by distance.
fn bias_gradient(
    cuda: &CudaBackend,
    op: &Attention,
    sums: View<'_, Buffer>,
    heads: usize,
    d_bias: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let Some(buckets) = op.keys.bias.and_then(Buckets::of) else {
        unreachable!("it has a gradient")
    };
    let width = heads * buckets.distances();
    let mut all = cuda.scratch(DType::F32, width)?;
    let layout = Layout::contiguous(&Extents::from([1, width]));
    let mut target = ViewMut { buffer: &mut *all, dtype: DType::F32, layout: &layout };
    cuda.reduce_lines(ReduceOp::Sum, 0, sums, &mut target)?;
    let call = cuda.call("attention_plain_biased", "attention_bias_gradient").written(&all);
    let n = d_bias.layout.shape().elements();
    call.count(heads).buckets(buckets).target(d_bias).each(n)
}
