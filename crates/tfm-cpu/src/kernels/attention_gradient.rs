//! The gradient of attention over a ragged batch.
//!
//! The kernel computes the weights again from the scores and their saved `log Σ exp`. Each sequence
//! and head takes five small products. It takes queries in blocks, so that only a block's weights
//! are in memory.

use std::ops::Range;

use tfm_core::fused::KeyRows;

use super::attention::{KeySpan, Keys};
use super::distance_bias::DistanceBias;
use super::dropout::Dropout;
use super::heads::Heads;
use super::math::exp;
use super::simd::{Isa, Kernel, Simd};
use super::small_product::product;
use super::threads::{SharedMut, Threads, share};

/// Queries whose weights are in memory together.
const BLOCK: usize = 32;

/// What attention was computed from, and its results.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// `[queries, heads, size]`
    pub query: Heads<'a>,
    /// The keys, which lie in ranges.
    pub keys: Keys<'a>,
    /// The factor of the scores.
    pub scale: f32,
    /// The dropout of the weights: that of head h, query i and row j has position
    /// `(h·queries + i)·rows + j`.
    pub dropout: Option<Dropout>,
    /// The result, `[queries, heads, size]`.
    pub context: &'a [f32],
    /// `[queries, heads]`: log Σ exp of the scores of a query, 0 where it has no key.
    pub log_sum_exp: &'a [f32],
}

/// The gradients of query, key and value, each in its shape, given that of the context.
///
/// With weights P, their factors M of dropout and `dP = M∘(dO·Vᵀ)` they are `dV = (M∘P)ᵀ·dO`, `dQ =
/// dS·K` and `dK = dSᵀ·Q`, where `dS = scale·P∘(dP − D)` and `D_i = dO_i·O_i`. Rows of no sequence
/// get 0. Where the keys of sequences overlap, their gradients are added in the order of the
/// sequences. `d_bias [buckets, heads]`, where there is a bias, gets the sums of `P∘(dP − D)`:
/// those of a sequence by distance, then by bucket, then over all sequences.
pub fn attention_gradient(
    isa: Isa,
    threads: &Threads,
    forward: Forward<'_>,
    d_context: &[f32],
    gradients: [&mut [f32]; 3],
    d_bias: Option<&mut [f32]>,
) {
    let (query, Keys { key, value, bias, .. }) = (forward.query, forward.keys);
    let (heads, kv_heads, size) = (query.heads(), key.heads(), query.size());
    assert!(key.heads() == value.heads() && [key.size(), value.size()] == [size; 2]);
    assert!(heads.is_multiple_of(kv_heads.max(1)) && heads >= kv_heads);
    assert!(key.rows() == value.rows() && d_context.len() == forward.context.len());
    assert!(forward.context.len() == query.rows() * heads * size);
    assert!(forward.log_sum_exp.len() == query.rows() * heads);
    let lengths = [query.rows() * heads, key.rows() * kv_heads, key.rows() * kv_heads];
    assert!((0..3).all(|i| gradients[i].len() == lengths[i] * size));
    let biases = bias.map(|bias| bias.buckets() * heads);
    assert!(d_bias.as_ref().map(|d_bias| d_bias.len()) == biases);
    let sequences = sequences(&forward);
    let disjoint = are_disjoint(&sequences);
    let [d_query, d_key, d_value] = gradients;
    let queries = sequences.iter().map(|s| s.queries).collect();
    let keys: Vec<_> = sequences.iter().map(|s| (s.keys.0, s.keys.0 + s.keys.1)).collect();
    for (gradient, rows, heads) in [
        (&mut *d_query, queries, heads),
        (&mut *d_key, keys.clone(), kv_heads),
        (&mut *d_value, keys, kv_heads),
    ] {
        // Either each row is written once, or all rows are added to.
        clear(gradient, if disjoint { rows } else { Vec::new() }, heads * size);
    }
    let gradients = [d_query, d_key, d_value].map(SharedMut::new);
    let pairs: usize = sequences.iter().map(|s| (s.queries.1 - s.queries.0) * s.keys.1).sum();
    // Sequences whose keys overlap are one task's, for each key head.
    let items = if disjoint { sequences.len() * kv_heads } else { kv_heads };
    let group = heads / kv_heads.max(1);
    // Of each sequence and head.
    let buckets = bias.map_or(0, DistanceBias::buckets);
    let mut by_bucket = vec![0.0; sequences.len() * heads * buckets];
    let shared = SharedMut::new(&mut by_bucket);
    let tasks = threads.tasks(pairs.saturating_mul(10 * size * heads), items);
    threads.run(tasks, |task| {
        let mut workspace = Workspace::default();
        for item in share(items, tasks, task) {
            let (kv_head, mine) = if disjoint {
                (item % kv_heads, item / kv_heads..item / kv_heads + 1)
            } else {
                (item, 0..sequences.len())
            };
            let mine = mine.flat_map(|number| (0..group).map(move |member| (number, member)));
            for (number, member) in mine {
                let (forward, sequence) = (&forward, &sequences[number]);
                let (gradients, workspace) = (&gradients, &mut workspace);
                let heads_of = [kv_head * group + member, kv_head];
                // The heads of a group add to the same keys.
                let add = [!disjoint, !disjoint || member > 0];
                let place = (number * heads + heads_of[0]) * buckets;
                // SAFETY: each sequence and head has a part of its own, and is one task's.
                let d_bias = unsafe { shared.slice(place..place + buckets) };
                let heads = heads_of;
                let head =
                    Head { forward, d_context, sequence, heads, gradients, d_bias, add, workspace };
                isa.run(head);
            }
        }
    });
    for (i, out) in d_bias.into_iter().flatten().enumerate() {
        let (bucket, head) = (i / heads, i % heads);
        let parts = by_bucket.iter().skip(head * buckets + bucket).step_by(heads * buckets);
        *out = parts.map(|&part| f64::from(part)).sum::<f64>() as f32;
    }
}

/// Queries `queries.0..queries.1`, and `keys.1` keys from `keys.0` on.
struct Sequence {
    queries: (usize, usize),
    keys: (usize, usize),
}

/// The sequences that have queries and keys, with those keys that some query sees. Panics where a
/// row does not exist.
fn sequences(forward: &Forward<'_>) -> Vec<Sequence> {
    let index = |i: i32| usize::try_from(i).unwrap_or(i32::MAX as usize);
    let KeyRows::Ranges { query_offsets, key_ranges } = forward.keys.rows else {
        panic!("the gradient is for keys in ranges");
    };
    let pairs = query_offsets.windows(2).zip(key_ranges.chunks_exact(2));
    let all = pairs.map(|(queries, keys)| {
        let queries = (index(queries[0]), index(queries[1]));
        let (start, count) = (index(keys[0]), index(keys[1]));
        // No query sees the keys before the first query's window, and they may be NaN.
        let window = forward.keys.window.unwrap_or(usize::MAX);
        let most = (queries.1.saturating_sub(queries.0)).saturating_add(window.saturating_sub(1));
        let unseen = count.saturating_sub(most);
        Sequence { queries, keys: (start + unseen, count - unseen) }
    });
    let some = all.filter(|s| s.queries.0 < s.queries.1 && s.keys.1 > 0);
    some.inspect(|s| {
        assert!(s.keys.0 + s.keys.1 <= forward.keys.key.rows(), "keys outside the rows");
        assert!(s.queries.1 <= forward.query.rows(), "queries outside the rows");
    })
    .collect()
}

/// Whether no two sequences share a key or a query.
fn are_disjoint(sequences: &[Sequence]) -> bool {
    let ascending = |mut ranges: Vec<(usize, usize)>| {
        ranges.sort_unstable();
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0)
    };
    ascending(sequences.iter().map(|s| (s.keys.0, s.keys.0 + s.keys.1)).collect())
        && ascending(sequences.iter().map(|s| s.queries).collect())
}

/// Memory of a task: one head of one sequence in rows of whole vectors, and what is computed of it.
#[derive(Default)]
struct Workspace {
    query: Vec<f32>,
    d_context: Vec<f32>,
    key: Vec<f32>,
    key_transposed: Vec<f32>,
    value_transposed: Vec<f32>,
    /// `[BLOCK, keys]`, as the two that follow: the weights.
    weights: Vec<f32>,
    /// The weights after dropout.
    dropped: Vec<f32>,
    /// The gradients of the weights, then those of the scores.
    d_scores: Vec<f32>,
    d_query: Vec<f32>,
    d_key: Vec<f32>,
    d_value: Vec<f32>,
    /// The gradient of the biases, by distance.
    d_bias: Vec<f32>,
}

/// One head of one sequence, and where its gradients go.
struct Head<'a> {
    forward: &'a Forward<'a>,
    d_context: &'a [f32],
    sequence: &'a Sequence,
    /// The head of the queries, and that of their keys.
    heads: [usize; 2],
    gradients: &'a [SharedMut<'a, f32>; 3],
    /// The gradient of the biases, by bucket.
    d_bias: &'a mut [f32],
    /// Whether to add to the gradients of queries, and of keys and values, or to write them.
    add: [bool; 2],
    workspace: &'a mut Workspace,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Head { forward, sequence, gradients, add, workspace, d_context, d_bias, .. } = self;
        let Sequence { queries: (first, last), keys: (start, count) } = *sequence;
        let [head, kv_head] = self.heads;
        let (query, Keys { key, value, causal, window, bias, .. }) = (forward.query, forward.keys);
        let (heads, size) = (query.heads(), query.size());
        let query_place = (add[0], [heads, size, head]);
        let key_place = (add[1], [key.heads(), size, kv_head]);
        let wide = size.next_multiple_of(S::LANES);
        let columns = count.next_multiple_of(S::LANES);
        // The extra rows of keys and values are 0, and give columns of 0 when transposed.
        copy(&mut workspace.key, (start, count), columns, wide, |row| key.head(row, kv_head));
        transpose(s, &workspace.key, [columns, wide], &mut workspace.key_transposed);
        copy(&mut workspace.d_value, (start, count), columns, wide, |row| value.head(row, kv_head));
        transpose(s, &workspace.d_value, [columns, wide], &mut workspace.value_transposed);
        for gradient in [&mut workspace.d_key, &mut workspace.d_value] {
            gradient.clear();
            gradient.resize(count * wide, 0.0);
        }
        for block in [&mut workspace.weights, &mut workspace.dropped, &mut workspace.d_scores] {
            block.resize(BLOCK * columns, 0.0);
        }
        workspace.d_bias.clear();
        workspace.d_bias.resize(bias.map_or(0, DistanceBias::distances), 0.0);
        for from in (first..last).step_by(BLOCK) {
            let m = BLOCK.min(last - from);
            let d_context = |row: usize| &d_context[(row * heads + head) * size..][..size];
            copy(&mut workspace.query, (from, m), m, wide, |row| query.head(row, head));
            copy(&mut workspace.d_context, (from, m), m, wide, d_context);
            let (d_scores, weights) = (&mut workspace.d_scores[..], &mut workspace.weights[..]);
            let (a, b) =
                ((&workspace.query[..], wide, 1), (&workspace.key_transposed[..], columns));
            product(s, [m, columns, size], a, b, (weights, columns), false);
            let (a, b) =
                ((&workspace.d_context[..], wide, 1), (&workspace.value_transposed[..], columns));
            product(s, [m, columns, size], a, b, (d_scores, columns), false);
            for i in 0..m {
                let row = from + i;
                let context = &forward.context[(row * heads + head) * size..][..size];
                let own = dot(s, context, d_context(row));
                let later = last - 1 - row;
                let end = count.saturating_sub(if causal { later } else { 0 });
                let all = KeySpan::all(end, (later + 1) as isize - count as isize);
                let span = window.map_or(all, |window| all.within(window));
                let distance = span.distance + span.start as isize;
                let log_sum = forward.log_sum_exp[row * heads + head];
                let line = i * columns..(i + 1) * columns;
                let weights = &mut weights[line.clone()];
                let (d_scores, dropped) =
                    (&mut d_scores[line.clone()], &mut workspace.dropped[line]);
                let mut scale = forward.scale;
                let bias = bias.filter(|_| !span.range().is_empty());
                if let Some(bias) = bias {
                    bias.add(s, (scale, head), distance, &mut weights[span.range()]);
                    scale = 1.0;
                }
                exponentials(s, weights, scale, log_sum, span.range());
                dropped.copy_from_slice(weights);
                if let Some(dropout) = forward.dropout {
                    let position = (head * query.rows() + row) * key.rows() + start + span.start;
                    dropout.apply(s, position as u64, &mut d_scores[span.range()]);
                    dropout.apply(s, position as u64, &mut dropped[span.range()]);
                }
                let (own, scale) = (s.splat(own), s.splat(forward.scale));
                if let Some(bias) = bias {
                    let sums = &mut workspace.d_bias[bias.place(distance)..][..span.range().len()];
                    let (d_scores, weights) = (&d_scores[span.start..], &weights[span.start..]);
                    let lanes = d_scores.chunks(S::LANES).zip(weights.chunks(S::LANES));
                    for (sum, (d, p)) in sums.chunks_mut(S::LANES).zip(lanes) {
                        let difference = s.sub(s.load_partial(d), own);
                        let so_far = s.load_partial(sum);
                        s.store_partial(s.fma(s.load_partial(p), difference, so_far), sum);
                    }
                }
                let lanes = d_scores.chunks_exact_mut(S::LANES);
                for (d, p) in lanes.zip(weights.chunks_exact(S::LANES)) {
                    let difference = s.sub(s.load(d), own);
                    s.store(s.mul(s.mul(s.load(p), scale), difference), d);
                }
            }
            workspace.d_query.resize(BLOCK * wide, 0.0);
            let a = (&workspace.d_scores[..], columns, 1);
            let out = (&mut workspace.d_query[..], wide);
            product(s, [m, wide, count], a, (&workspace.key, wide), out, false);
            let a = (&workspace.d_scores[..], 1, columns);
            let out = (&mut workspace.d_key[..], wide);
            product(s, [count, wide, m], a, (&workspace.query, wide), out, true);
            let a = (&workspace.dropped[..], 1, columns);
            let out = (&mut workspace.d_value[..], wide);
            product(s, [count, wide, m], a, (&workspace.d_context, wide), out, true);
            store(&gradients[0], query_place, (from, m), wide, &workspace.d_query);
        }
        if let Some(bias) = bias {
            bias.fold(&workspace.d_bias, d_bias);
        }
        store(&gradients[1], key_place, (start, count), wide, &workspace.d_key);
        store(&gradients[2], key_place, (start, count), wide, &workspace.d_value);
    }
}

/// Stores rows (first and count) of one head in a gradient, or adds them to it.
#[inline(always)]
fn store(
    gradient: &SharedMut<'_, f32>,
    (add, [heads, size, head]): (bool, [usize; 3]),
    rows: (usize, usize),
    wide: usize,
    from: &[f32],
) {
    if size == 0 {
        return;
    }
    for (i, from) in from.chunks_exact(wide).take(rows.1).enumerate() {
        let start = ((rows.0 + i) * heads + head) * size;
        // SAFETY: tasks have different heads or sequences that share no row.
        let out = unsafe { gradient.slice(start..start + size) };
        let pairs = out.iter_mut().zip(from);
        if add {
            pairs.for_each(|(out, x)| *out += x);
        } else {
            pairs.for_each(|(out, x)| *out = *x);
        }
    }
}

/// Sets the rows outside the ranges of `written`, which do not overlap, to 0.
fn clear(gradient: &mut [f32], mut written: Vec<(usize, usize)>, row_len: usize) {
    written.sort_unstable();
    let rows = gradient.len().checked_div(row_len).unwrap_or(0);
    let mut from = 0;
    for (start, end) in written.into_iter().chain([(rows, rows)]) {
        gradient[from * row_len..start * row_len].fill(0.0);
        from = end;
    }
}

/// Copies `rows` (first and count) into `height` rows of `wide` elements, and fills the rest with
/// 0.
#[inline(always)]
fn copy<'a>(
    to: &mut Vec<f32>,
    rows: (usize, usize),
    height: usize,
    wide: usize,
    row: impl Fn(usize) -> &'a [f32],
) {
    to.resize(height * wide, 0.0);
    if wide == 0 {
        return;
    }
    for (i, to) in to.chunks_exact_mut(wide).enumerate() {
        let from = if i < rows.1 { row(rows.0 + i) } else { &[] };
        to[..from.len()].copy_from_slice(from);
        to[from.len()..].fill(0.0);
    }
}

/// Transposes `[rows, columns]`, both multiples of `S::LANES`.
#[inline(always)]
fn transpose<S: Simd>(s: S, from: &[f32], [rows, columns]: [usize; 2], to: &mut Vec<f32>) {
    to.resize(rows * columns, 0.0);
    for i in (0..rows).step_by(S::LANES) {
        for j in (0..columns).step_by(S::LANES) {
            s.transpose(&from[i * columns + j..], columns, &mut to[j * rows + i..], rows);
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for (a, b) in a.chunks(S::LANES).zip(b.chunks(S::LANES)) {
        sum = s.fma(s.load_partial(a), s.load_partial(b), sum);
    }
    s.sum(sum)
}

/// `x = exp(scale·x − log_sum)` for the keys of `span`, and 0 for the others.
#[inline(always)]
fn exponentials<S: Simd>(s: S, x: &mut [f32], scale: f32, log_sum: f32, span: Range<usize>) {
    let (scale, shift) = (s.splat(scale), s.splat(-log_sum));
    let begin = span.start / S::LANES * S::LANES;
    let whole = begin..span.end.next_multiple_of(S::LANES);
    for x in x[whole].chunks_exact_mut(S::LANES) {
        s.store(exp(s, s.fma(s.load(x), scale, shift)), x);
    }
    x[..span.start].fill(0.0);
    x[span.end..].fill(0.0);
}

#[cfg(test)]
mod tests;
