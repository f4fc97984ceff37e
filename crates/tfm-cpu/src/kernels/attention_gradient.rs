//! The gradient of attention over a ragged batch.
//!
//! The weights are computed again from the scores and their saved `log Σ exp`. For every sequence and head there
//! are five small products; queries are taken in blocks, so that no more than a block's weights are
//! in memory.

use super::distance_bias::DistanceBias;
use super::dropout::Dropout;
use super::heads::Heads;
use super::math::exp;
use super::simd::{Isa, Kernel, Simd};
use super::small_product::product;
use super::threads::{SharedMut, Threads, share};

/// Queries whose weights are in memory together.
const BLOCK: usize = 32;

/// What attention computed, and where.
#[derive(Clone, Copy, Debug)]
pub struct Attended<'a> {
    /// Query, key and value.
    pub heads: [Heads<'a>; 3],
    /// `[n + 1]`, as [`super::attention::KeyRows::Ragged`] has them.
    pub query_offsets: &'a [i32],
    /// `[n, 2]`, as there.
    pub key_ranges: &'a [i32],
    /// Whether query i of q saw only the keys j ≤ i + (k − q) of k.
    pub causal: bool,
    /// The factor of the scores.
    pub scale: f32,
    /// What was added to the scores.
    pub bias: Option<&'a DistanceBias>,
    /// The dropout of the weights: that of head h, query i and row j has position `(h·queries + i)·rows + j`.
    pub dropout: Option<Dropout>,
    /// The result, `[queries, heads, size]`.
    pub context: &'a [f32],
    /// `[queries, heads]`: log Σ exp of the scores of a query, 0 where it has no key.
    pub log_sum_exp: &'a [f32],
}

/// The gradients of query, key and value, each `[rows, heads, size]`, given that of the context. With weights
/// P, their factors M of dropout and `dP = M∘(dO·Vᵀ)`: `dV = (M∘P)ᵀ·dO`, `dS = scale·P∘(dP − D)` with
/// `D_i = dO_i·O_i`, `dQ = dS·K` and `dK = dSᵀ·Q`. Rows of no sequence get 0; where the keys of sequences
/// overlap, their gradients are added in the order of the sequences. `d_bias [buckets, heads]`, where there is a
/// bias, gets the sums of `P∘(dP − D)`: of a sequence by distance, then by bucket, then of all sequences.
pub fn attention_gradient(
    isa: Isa,
    threads: &Threads,
    attended: Attended<'_>,
    d_context: &[f32],
    gradients: [&mut [f32]; 3],
    d_bias: Option<&mut [f32]>,
) {
    let [query, key, value] = attended.heads;
    let (heads, size) = (query.heads(), query.size());
    assert!([key.heads(), value.heads()] == [heads; 2] && [key.size(), value.size()] == [size; 2]);
    assert!(key.rows() == value.rows() && d_context.len() == attended.context.len());
    assert!(attended.context.len() == query.rows() * heads * size);
    assert!(attended.log_sum_exp.len() == query.rows() * heads);
    let rows = [query.rows(), key.rows(), key.rows()];
    assert!((0..3).all(|i| gradients[i].len() == rows[i] * heads * size));
    let biases = attended.bias.map(|bias| bias.buckets() * heads);
    assert!(d_bias.as_ref().map(|d_bias| d_bias.len()) == biases);
    let sequences = sequences(&attended);
    let apart = are_apart(&sequences);
    let [d_query, d_key, d_value] = gradients;
    let queries = sequences.iter().map(|s| s.queries).collect();
    let keys: Vec<_> = sequences.iter().map(|s| (s.keys.0, s.keys.0 + s.keys.1)).collect();
    for (gradient, rows) in
        [(&mut *d_query, queries), (&mut *d_key, keys.clone()), (&mut *d_value, keys)]
    {
        // Each row is written once, or they are added up.
        clear(gradient, if apart { rows } else { Vec::new() }, heads * size);
    }
    let gradients = [d_query, d_key, d_value].map(SharedMut::new);
    let pairs: usize = sequences.iter().map(|s| (s.queries.1 - s.queries.0) * s.keys.1).sum();
    // Sequences whose keys overlap are one task's, for each head.
    let items = if apart { sequences.len() * heads } else { heads };
    // Of each sequence and head.
    let buckets = attended.bias.map_or(0, DistanceBias::buckets);
    let mut by_bucket = vec![0.0; sequences.len() * heads * buckets];
    let shared = SharedMut::new(&mut by_bucket);
    let tasks = threads.tasks(pairs.saturating_mul(10 * size * heads), items);
    threads.run(tasks, |task| {
        let mut memory = Memory::default();
        for item in share(items, tasks, task) {
            let (head, mine) = if apart {
                (item % heads, item / heads..item / heads + 1)
            } else {
                (item, 0..sequences.len())
            };
            for number in mine {
                let (attended, sequence) = (&attended, &sequences[number]);
                let (gradients, memory, add) = (&gradients, &mut memory, !apart);
                let place = (number * heads + head) * buckets;
                // SAFETY: each sequence and head has a part of its own, and is one task's.
                let d_bias = unsafe { shared.slice(place..place + buckets) };
                let one =
                    One { attended, d_context, sequence, head, gradients, d_bias, add, memory };
                isa.run(one);
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

/// The sequences with queries and keys. Panics where a row does not exist.
fn sequences(attended: &Attended<'_>) -> Vec<Sequence> {
    let index = |i: i32| usize::try_from(i).unwrap_or(i32::MAX as usize);
    let pairs = attended.query_offsets.windows(2).zip(attended.key_ranges.chunks_exact(2));
    let all = pairs.map(|(queries, keys)| Sequence {
        queries: (index(queries[0]), index(queries[1])),
        keys: (index(keys[0]), index(keys[1])),
    });
    let some = all.filter(|s| s.queries.0 < s.queries.1 && s.keys.1 > 0);
    some.inspect(|s| {
        assert!(s.keys.0 + s.keys.1 <= attended.heads[1].rows(), "keys outside the rows");
        assert!(s.queries.1 <= attended.heads[0].rows(), "queries outside the rows");
    })
    .collect()
}

/// Whether no two sequences share a key or a query.
fn are_apart(sequences: &[Sequence]) -> bool {
    let ascending = |mut ranges: Vec<(usize, usize)>| {
        ranges.sort_unstable();
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0)
    };
    ascending(sequences.iter().map(|s| (s.keys.0, s.keys.0 + s.keys.1)).collect())
        && ascending(sequences.iter().map(|s| s.queries).collect())
}

/// One head of one sequence in rows of whole vectors, and what is computed of it.
#[derive(Default)]
struct Memory {
    query: Vec<f32>,
    d_context: Vec<f32>,
    key: Vec<f32>,
    key_turned: Vec<f32>,
    value_turned: Vec<f32>,
    /// `[BLOCK, keys]`: the weights, those after dropout, and the gradients of both and of the scores.
    weights: Vec<f32>,
    dropped: Vec<f32>,
    d_scores: Vec<f32>,
    d_query: Vec<f32>,
    d_key: Vec<f32>,
    d_value: Vec<f32>,
    /// By distance.
    d_bias: Vec<f32>,
}

struct One<'a> {
    attended: &'a Attended<'a>,
    d_context: &'a [f32],
    sequence: &'a Sequence,
    head: usize,
    gradients: &'a [SharedMut<'a, f32>; 3],
    /// By bucket.
    d_bias: &'a mut [f32],
    /// Whether to add to the gradients, or to write them.
    add: bool,
    memory: &'a mut Memory,
}

impl Kernel for One<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let One { attended, sequence, head, gradients, add, memory, d_context, d_bias } = self;
        let Sequence { queries: (first, last), keys: (start, count) } = *sequence;
        let [query, key, value] = attended.heads;
        let (heads, size) = (query.heads(), query.size());
        let place = (add, [heads, size, head]);
        let (wide, all) = (size.next_multiple_of(S::LANES), count.next_multiple_of(S::LANES));
        // The extra rows of keys and values are 0, and give columns of 0 when turned.
        copy(&mut memory.key, (start, count), all, wide, |row| key.head(row, head));
        turn(s, &memory.key, [all, wide], &mut memory.key_turned);
        copy(&mut memory.d_value, (start, count), all, wide, |row| value.head(row, head));
        turn(s, &memory.d_value, [all, wide], &mut memory.value_turned);
        for gradient in [&mut memory.d_key, &mut memory.d_value] {
            gradient.clear();
            gradient.resize(count * wide, 0.0);
        }
        for block in [&mut memory.weights, &mut memory.dropped, &mut memory.d_scores] {
            block.resize(BLOCK * all, 0.0);
        }
        memory.d_bias.clear();
        memory.d_bias.resize(attended.bias.map_or(0, DistanceBias::distances), 0.0);
        for from in (first..last).step_by(BLOCK) {
            let m = BLOCK.min(last - from);
            let d_context = |row: usize| &d_context[(row * heads + head) * size..][..size];
            copy(&mut memory.query, (from, m), m, wide, |row| query.head(row, head));
            copy(&mut memory.d_context, (from, m), m, wide, d_context);
            let (d_scores, weights) = (&mut memory.d_scores[..], &mut memory.weights[..]);
            let (a, b) = ((&memory.query[..], wide, 1), (&memory.key_turned[..], all));
            product(s, [m, all, size], a, b, (weights, all), false);
            let (a, b) = ((&memory.d_context[..], wide, 1), (&memory.value_turned[..], all));
            product(s, [m, all, size], a, b, (d_scores, all), false);
            for i in 0..m {
                let row = from + i;
                let context = &attended.context[(row * heads + head) * size..][..size];
                let own = dot(s, context, d_context(row));
                let later = last - 1 - row;
                let visible = count.saturating_sub(if attended.causal { later } else { 0 });
                let distance = (later + 1) as isize - count as isize;
                let log_sum = attended.log_sum_exp[row * heads + head];
                let line = i * all..(i + 1) * all;
                let weights = &mut weights[line.clone()];
                let (d_scores, dropped) = (&mut d_scores[line.clone()], &mut memory.dropped[line]);
                let mut scale = attended.scale;
                let bias = attended.bias.filter(|_| visible > 0);
                if let Some(bias) = bias {
                    bias.add(s, (scale, head), distance, &mut weights[..visible]);
                    scale = 1.0;
                }
                exponentials(s, weights, scale, log_sum, visible);
                dropped.copy_from_slice(weights);
                if let Some(dropout) = attended.dropout {
                    let position = (head * query.rows() + row) * key.rows() + start;
                    dropout.apply(s, position as u64, &mut d_scores[..visible]);
                    dropout.apply(s, position as u64, &mut dropped[..visible]);
                }
                let (own, scale) = (s.splat(own), s.splat(attended.scale));
                if let Some(bias) = bias {
                    let sums = &mut memory.d_bias[bias.place(distance)..][..visible];
                    let lanes = d_scores.chunks(S::LANES).zip(weights.chunks(S::LANES));
                    for (sum, (d, p)) in sums.chunks_mut(S::LANES).zip(lanes) {
                        let difference = s.sub(s.load(d), own);
                        s.store_partial(s.fma(s.load(p), difference, s.load_partial(sum)), sum);
                    }
                }
                let lanes = d_scores.chunks_exact_mut(S::LANES);
                for (d, p) in lanes.zip(weights.chunks_exact(S::LANES)) {
                    let difference = s.sub(s.load(d), own);
                    s.store(s.mul(s.mul(s.load(p), scale), difference), d);
                }
            }
            memory.d_query.resize(BLOCK * wide, 0.0);
            let a = (&memory.d_scores[..], all, 1);
            let out = (&mut memory.d_query[..], wide);
            product(s, [m, wide, count], a, (&memory.key, wide), out, false);
            let a = (&memory.d_scores[..], 1, all);
            let out = (&mut memory.d_key[..], wide);
            product(s, [count, wide, m], a, (&memory.query, wide), out, true);
            let a = (&memory.dropped[..], 1, all);
            let out = (&mut memory.d_value[..], wide);
            product(s, [count, wide, m], a, (&memory.d_context, wide), out, true);
            store(&gradients[0], place, (from, m), wide, &memory.d_query);
        }
        if let Some(bias) = attended.bias {
            bias.fold(&memory.d_bias, d_bias);
        }
        store(&gradients[1], place, (start, count), wide, &memory.d_key);
        store(&gradients[2], place, (start, count), wide, &memory.d_value);
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

/// Sets the rows between those of `written`, which do not overlap, to 0.
fn clear(gradient: &mut [f32], mut written: Vec<(usize, usize)>, row_len: usize) {
    written.sort_unstable();
    let rows = gradient.len().checked_div(row_len).unwrap_or(0);
    let mut from = 0;
    for (start, end) in written.into_iter().chain([(rows, rows)]) {
        gradient[from * row_len..start * row_len].fill(0.0);
        from = end;
    }
}

/// Copies `rows` (first and count) into rows of `wide` elements, `height` in all; what is beyond is 0.
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
fn turn<S: Simd>(s: S, from: &[f32], [rows, columns]: [usize; 2], to: &mut Vec<f32>) {
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

/// `x = exp(scale·x − log_sum)` for the visible ones; 0 for the others.
#[inline(always)]
fn exponentials<S: Simd>(s: S, x: &mut [f32], scale: f32, log_sum: f32, visible: usize) {
    let (scale, shift) = (s.splat(scale), s.splat(-log_sum));
    let whole = visible.next_multiple_of(S::LANES);
    for x in x[..whole].chunks_exact_mut(S::LANES) {
        s.store(exp(s, s.fma(s.load(x), scale, shift)), x);
    }
    x[visible..].fill(0.0);
}

#[cfg(test)]
mod tests;
