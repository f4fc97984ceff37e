//! The kernels of attention and its gradient: by tiles of tensor cores for half precision, else plain ones.

use super::typed;
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::{Call, Grid};
use std::ops::RangeInclusive;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::fused::{Attention, AttentionGradient};
use tfm_core::{DType, Layout};

/// The sizes of heads that there are kernels for.
pub(super) const SIZES: RangeInclusive<usize> = 1..=256;
/// Those that the kernels of tiles are made for; others are padded to the next.
const PADDED: [usize; 5] = [32, 64, 96, 128, 256];
/// Elements of 16 bytes: what one copy moves.
const CHUNK: usize = 8;

/// The shape of a call.
#[derive(Debug, Clone, Copy)]
struct Shape {
    queries: usize,
    rows: usize,
    sequences: usize,
    heads: usize,
    size: usize,
    dropout: bool,
}

impl Shape {
    fn of(inputs: &[View<'_, Buffer>], op: &Attention) -> Shape {
        let query = inputs[0].layout.shape();
        Shape {
            queries: query[0],
            rows: inputs[1].layout.shape()[0],
            sequences: inputs[4].layout.shape()[0],
            heads: query[1],
            size: query[2],
            dropout: op.dropout.is_some(),
        }
    }

    /// Blocks for the queries: `tile_of` of the kernels finds sequence and tile.
    fn query_blocks(&self, tile: usize) -> usize {
        if self.queries == 0 || self.sequences == 0 {
            return 0;
        }
        self.queries / tile + self.sequences
    }
}

/// Which kernels compute a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernels {
    /// Of tiles, for heads padded to this size.
    Tiles(usize),
    Plain,
}

/// Bytes of shared memory and sizes as `attention_forward.cu`, `attention_gradient.cu` and `attention_plain.cu` have them.
impl Kernels {
    /// Tiles need half precision, 16-byte aligned rows, and scores that grow with the products.
    fn of(op: &Attention, operands: &[&View<'_, Buffer>], results: &[&Layout]) -> Kernels {
        let [view, ..] = operands else { return Kernels::Plain };
        let size = view.layout.shape()[2];
        let half = matches!(view.dtype, DType::F16 | DType::BF16);
        let aligned = |layout: &Layout| {
            let outer = layout.shape().iter().zip(layout.strides()).take(2);
            layout.offset().is_multiple_of(CHUNK)
                && outer.filter(|(n, _)| **n > 1).all(|(_, stride)| stride.is_multiple_of(CHUNK))
        };
        let all = operands.iter().map(|view| view.layout).chain(results.iter().copied());
        let padded = PADDED.into_iter().find(|padded| size <= *padded);
        match padded {
            Some(padded)
                if half
                    && size.is_multiple_of(CHUNK)
                    && op.scale > 0.0
                    && all.into_iter().all(aligned) =>
            {
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
            Kernels::Plain => 4 * 4 * (size.div_ceil(4) | 1),
        }
    }

    fn forward_shared(self, shape: &Shape) -> usize {
        let row = self.row(shape.size);
        let Kernels::Tiles(padded) = self else { return 2 * 32 * row };
        let (keys, queries) = if padded > 128 { (16, 64) } else { (64, 0) };
        (4 * keys + queries) * row + if shape.dropout { 64 * (keys + 4) } else { 0 }
    }

    fn gradient_shared(self, shape: &Shape) -> usize {
        let row = self.row(shape.size);
        let Kernels::Tiles(padded) = self else { return 3 * 32 * row };
        let (stream, stages) = if padded > 128 { (16, 1) } else { (32, 2) };
        // The masks of 64 queries and the keys that pass by, or the other way round.
        let kept = if shape.dropout { (64 * (stream + 4)).max(stream * (64 + 4)) } else { 0 };
        (2 * 64 + 2 * stages * stream) * row + stages * stream * 8 + 16 + kept
    }

    fn grid(self, shape: &Shape, x: usize, shared: usize) -> Grid {
        Grid { blocks: [x, shape.heads, 1], threads: self.threads(), shared: shared as u32 }
    }

    /// A kernel, named for what it computes.
    fn call<'a>(self, cuda: &'a CudaBackend, what: &str, dtype: DType) -> Call<'a> {
        match self {
            Kernels::Tiles(padded) => {
                let module =
                    if what.is_empty() { "attention_forward" } else { "attention_gradient" };
                cuda.call(module, format!("{}_{padded}", typed(&format!("attention{what}"), dtype)))
            }
            Kernels::Plain => {
                cuda.call("attention_plain", typed(&format!("attention_plain{what}"), dtype))
            }
        }
    }
}

/// The arguments that all kernels begin with: `ATTENTION_ARGUMENTS`.
fn operands<'a>(
    mut call: Call<'a>,
    op: &Attention,
    shape: &Shape,
    inputs: &[View<'_, Buffer>],
    random: Option<&View<'_, Buffer>>,
) -> Call<'a> {
    for view in &inputs[..3] {
        let strides = view.layout.strides();
        call = call.source(view).stride(strides[0]).stride(strides[1]);
    }
    let call = call.source(&inputs[3]).source(&inputs[4]);
    let call = call.count(shape.sequences).count(shape.queries).count(shape.rows).count(shape.size);
    let call = call.signed(i32::from(op.causal)).float(op.scale);
    match (op.dropout, random) {
        (Some(mask), Some(key)) => {
            // A number is k/2^24: it is below the rate where k is below this.
            let threshold = (f64::from(mask.rate) * f64::from(1 << 24)).ceil();
            call.source(key).bits(mask.stream).bits(threshold as u32).float(mask.scale())
        }
        _ => call.nothing().bits(0).bits(0).float(1.0),
    }
}

pub(super) fn run(
    cuda: &CudaBackend,
    op: &Attention,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let shape = Shape::of(inputs, op);
    let views: Vec<_> = inputs[..3].iter().collect();
    let kernels = Kernels::of(op, &views, &[outputs[0].layout]);
    let call = operands(kernels.call(cuda, "", inputs[0].dtype), op, &shape, inputs, inputs.get(5));
    let [context, sums] = outputs else { unreachable!("attention has two results") };
    let blocks = shape.query_blocks(kernels.tile());
    let grid = kernels.grid(&shape, blocks, kernels.forward_shared(&shape));
    call.target(context).target(sums).launch(grid)
}

pub(super) fn gradient(
    cuda: &CudaBackend,
    AttentionGradient(op): &AttentionGradient,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let shape = Shape::of(inputs, op);
    let dtype = inputs[0].dtype;
    // log Σ exp and rowsum(dO∘O) of each query, by heads.
    let pairs = shape.queries * shape.heads;
    let mut memory = cuda.scratch(DType::F32, 2 * pairs)?;
    let call = cuda.call("attention_plain", typed("attention_rows", dtype));
    let call = call.source(&inputs[5]).source(&inputs[6]).source(&inputs[7]);
    let call = call.count(shape.queries).count(shape.heads).count(shape.size);
    let grid = Grid { blocks: [pairs.div_ceil(8), 1, 1], threads: 256, shared: 0 };
    call.scratch(&mut memory, 2 * pairs).count(pairs).launch(grid)?;

    let views: Vec<_> = inputs[..3].iter().chain([&inputs[7]]).collect();
    let results: Vec<_> = outputs.iter().map(|output| output.layout).collect();
    let kernels = Kernels::of(op, &views, &results);
    let shared = kernels.gradient_shared(&shape);
    let mut begin = |what| {
        let call = operands(kernels.call(cuda, what, dtype), op, &shape, inputs, inputs.get(8));
        call.source(&inputs[7]).scratch(&mut memory, 2 * pairs)
    };
    let [d_query, d_key, d_value] = outputs else { unreachable!("there are three gradients") };
    let grid = kernels.grid(&shape, shape.query_blocks(kernels.tile()), shared);
    begin("_query_gradient").target(d_query).launch(grid)?;
    let mut grid = kernels.grid(&shape, shape.rows.div_ceil(kernels.tile()), shared);
    if kernels == Kernels::Tiles(256) {
        grid.blocks[2] = 2;
    }
    begin("_key_gradient").target(d_key).target(d_value).launch(grid)
}
