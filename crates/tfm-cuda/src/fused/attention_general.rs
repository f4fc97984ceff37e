//! The general kernels of attention, forward. They compute what the lean ones do not: groups of
//! heads, windows, a cap of the scores, two sets of keys. Where all keys lie in ranges, a block has
//! a tile of queries; else each query goes by itself.

use super::row_table_attention::{CHUNK, WARPS, heads_of, loads_by_16_bytes};
use super::{Buckets, attention, typed};
use crate::backend::CudaBackend;
use crate::buffer::Buffer;
use crate::launch::{Call, Grid};
use tfm_core::backend::{Outcome, Signature, View, ViewMut};
use tfm_core::fused::{Attention, AttentionOperands, KeyLookup, KeyOperands, KeyRows, KeySet};
use tfm_core::{DType, Layout};

/// The sizes that the kernels of tiles are made for. Other sizes are padded to the next.
const PADDED: [usize; 3] = [64, 128, 256];
/// The sizes that the kernels of single queries with loads of 16 bytes are made for. The kernel
/// with other loads takes every size up to the last of these.
const SIZES: [usize; 2] = [128, 256];
/// The most blocks that share the keys of one head of one query. How many there are must depend on
/// no query's length, since the order of sums depends on it.
const PARTS: usize = 8;

/// A set of keys with its operands.
type Keys<'a> = (KeySet, KeyOperands<View<'a, Buffer>>);

/// Whether the kernels take an op on operands of these types and shapes: keys and values in the
/// query's type, a dropout only where the op gives sums, as in training.
pub(super) fn supports(op: &Attention, signature: &Signature<'_>) -> bool {
    let AttentionOperands { query, keys, more_keys, .. } = op.positions();
    let (dtype, query) = &signature.inputs[query];
    let of_one_type = [Some(keys), more_keys].into_iter().flatten().all(|keys| {
        [keys.key, keys.value].iter().all(|operand| signature.inputs[*operand].0 == *dtype)
    });
    let has_buckets = |set: &KeySet| set.bias.is_none_or(|bias| Buckets::of(bias).is_some());
    let [scale, cap] = scale_and_cap(op);
    (1..=attention::LARGEST).contains(&query.shape()[2])
        && of_one_type
        && (op.dropout.is_none() || op.gives_sums())
        && [Some(op.keys), op.more_keys].iter().flatten().all(has_buckets)
        && (scale as f32).is_finite()
        && (op.soft_cap.is_none() || (cap as f32).is_normal())
}

/// The factor of the products and the cap of the scores, 0 if there is none. Where there is one,
/// the factor is divided by it: a score is `cap·tanh(scale/cap·product)`.
fn scale_and_cap(op: &Attention) -> [f64; 2] {
    op.soft_cap.map_or([op.scale, 0.0], |cap| [op.scale / cap, cap])
}

/// Runs an op that [`supports`] accepts.
pub(super) fn run(
    cuda: &CudaBackend,
    op: &Attention,
    inputs: &[View<'_, Buffer>],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let operands = op.operands(inputs);
    let sets = [Some((op.keys, operands.keys)), op.more_keys.zip(operands.more_keys)];
    let by_ranges = |(set, _): &Keys<'_>| set.lookup == KeyLookup::Ranges;
    if sets.iter().flatten().all(by_ranges) {
        tiles(cuda, op, &operands, &sets, outputs)
    } else {
        single_queries(cuda, op, operands.query, &sets, &mut outputs[0])
    }
}

/// Tiles of queries, whose keys all lie in ranges.
fn tiles(
    cuda: &CudaBackend,
    op: &Attention,
    operands: &AttentionOperands<View<'_, Buffer>>,
    sets: &[Option<Keys<'_>>; 2],
    outputs: &mut [ViewMut<'_, Buffer>],
) -> Outcome {
    let query = &operands.query;
    let shape = query.layout.shape();
    let (queries, heads, size) = (shape[0], shape[1], shape[2]);
    let [context, of_sums @ ..] = outputs else { unreachable!("there is a context") };
    let views = [*query].into_iter().chain(keys_and_values(sets));
    let layouts = views.map(|view| view.layout).chain([context.layout]);
    let padded = PADDED.into_iter().find(|padded| size <= *padded);
    let padded = padded.filter(|_| attention::fits_tiles(query.dtype, size, layouts));
    let (name, tile, threads) = match padded {
        Some(padded) => (format!("{}_{padded}", typed("attention_general", query.dtype)), 64, 128),
        None => (typed("attention_plain_general", query.dtype), 32, 256),
    };
    let module = if padded.is_some() { "attention_general" } else { "attention_plain_general" };
    let call = cuda.call(module, name);
    let [scale, cap] = scale_and_cap(op);
    let call = heads_of(call, query).count(queries).count(size).float(scale).float(cap);
    let call = attention::with_dropout(call, op, operands.random_key);
    let call = with_sets(call, sets, heads).target(context);

    let distances = sets.iter().flatten().filter_map(|(set, _)| set.bias.and_then(Buckets::of));
    let distances: usize = distances.map(|buckets| buckets.distances()).sum();
    let shared = shared(padded, size, distances, op.dropout.is_some());
    let (_, first) = sets[0].as_ref().expect("there is a set of keys");
    let KeyRows::Ranges { key_ranges, .. } = first.rows else {
        unreachable!("all keys lie in ranges")
    };
    let blocks = attention::query_blocks(queries, key_ranges.layout.shape()[0], tile);
    let grid = Grid { blocks: [blocks, heads, 1], threads, shared: shared as u32 };
    match of_sums {
        [sums] => call.target(sums).launch(grid),
        _ => {
            // The kernels give sums, and the op does not.
            let mut sums = cuda.scratch(DType::F32, queries * heads)?;
            call.scratch(&mut sums, queries * heads).launch(grid)
        }
    }
}

/// Bytes of shared memory of the kernels of tiles, of heads padded to a size, or of the plain ones.
/// The kernels are in `attention_general.cuh` and `attention_plain_general.cu`.
fn shared(padded: Option<usize>, size: usize, distances: usize, dropout: bool) -> usize {
    let biases = 4 * distances;
    let Some(padded) = padded else { return 2 * 32 * attention::plain_row(size) + biases };
    let (keys, queries) = if padded > 128 { (16, 64) } else { (32, 0) };
    (4 * keys + queries) * 2 * (padded + 8) + biases + if dropout { 64 * (keys + 4) } else { 0 }
}

/// Single queries, each with its own keys.
fn single_queries(
    cuda: &CudaBackend,
    op: &Attention,
    query: View<'_, Buffer>,
    sets: &[Option<Keys<'_>>; 2],
    out: &mut ViewMut<'_, Buffer>,
) -> Outcome {
    let shape = query.layout.shape().clone();
    let (queries, heads, size) = (shape[0], shape[1], shape[2]);
    if shape.elements() == 0 {
        return Ok(());
    }
    let most = |(_, keys): &Keys<'_>| match keys.rows {
        KeyRows::Table { row_table, .. } => row_table.layout.shape()[1],
        KeyRows::Ranges { .. } => keys.key.layout.shape()[0],
    };
    let chunks: usize = sets.iter().flatten().map(|keys| most(keys).div_ceil(CHUNK)).sum();
    let parts = chunks.clamp(1, PARTS);
    let mut views = [query].into_iter().chain(keys_and_values(sets));
    let loaded = if views.all(|view| loads_by_16_bytes(&view)) {
        let found = SIZES.into_iter().find(|loaded| size <= *loaded);
        found.expect("`supports` has seen to it").to_string()
    } else {
        "any".into()
    };
    let module = "row_table_attention_general";
    let [scale, cap] = scale_and_cap(op);
    let call = cuda.call(module, format!("{}_{loaded}", typed(module, query.dtype)));
    let call = heads_of(call, &query).count(queries).count(heads).count(size);
    let call = with_sets(call.float(scale).float(cap), sets, heads);
    let shared = 4 * (WARPS * (size + 2) + CHUNK);
    let blocks = [queries * heads, parts, 1];
    let grid = Grid { blocks, threads: 32 * WARPS as u32, shared: shared as u32 };
    if parts == 1 {
        return call.target(out).nothing().launch(grid);
    }
    let elements = queries * heads * parts * (size + 2);
    let mut partial = cuda.scratch(DType::F32, elements)?;
    call.nothing().scratch(&mut partial, elements).launch(grid)?;
    let merge = cuda.call(module, typed("merge_parts", query.dtype));
    let merge = merge.scratch(&mut partial, elements).count(size).count(parts);
    merge.target(out).each(shape.elements())
}

fn keys_and_values<'a>(sets: &[Option<Keys<'a>>; 2]) -> impl Iterator<Item = View<'a, Buffer>> {
    sets.iter().flatten().flat_map(|(_, keys)| [keys.key, keys.value])
}

/// Adds the number of sets, and both of them. One that is not there has nothing in all places.
fn with_sets<'a>(call: Call<'a>, sets: &[Option<Keys<'_>>; 2], heads: usize) -> Call<'a> {
    let call = call.signed(sets.iter().flatten().count() as i32);
    sets.iter().fold(call, |call, keys| match keys {
        Some((set, operands)) => with_set(call, set, operands, heads),
        None => {
            let nowhere = |call: Call<'a>| call.nothing().stride(0).stride(0);
            let call = nowhere(nowhere(call)).nothing().nothing().count(0).count(0);
            call.signed(0).signed(0).signed(1).count(1).nothing().buckets(Buckets::NONE)
        }
    })
}

/// Adds a set: `KEY_SET_ARGUMENTS` of the kernels.
fn with_set<'a>(
    call: Call<'a>,
    set: &KeySet,
    KeyOperands { key, value, rows, bias }: &KeyOperands<View<'_, Buffer>>,
    heads: usize,
) -> Call<'a> {
    let extent = |layout: &Layout, axis: usize| layout.shape()[axis];
    let call = heads_of(heads_of(call, key), value);
    let call = match rows {
        KeyRows::Ranges { query_offsets, key_ranges } => {
            call.source(query_offsets).source(key_ranges).count(extent(key_ranges.layout, 0))
        }
        KeyRows::Table { row_table, lengths } => {
            call.source(row_table).source(lengths).count(extent(row_table.layout, 1))
        }
    };
    let group = heads.checked_div(extent(key.layout, 1)).unwrap_or(1);
    let window = set.window.map_or(i32::MAX, |window| i32::try_from(window).unwrap_or(i32::MAX));
    let call = call.count(extent(key.layout, 0)).signed(i32::from(set.lookup == KeyLookup::Table));
    let call = call.signed(i32::from(set.causal)).signed(window).count(group);
    let buckets = set.bias.and_then(Buckets::of).unwrap_or(Buckets::NONE);
    call.source_or_nothing(bias.as_ref()).buckets(buckets)
}
