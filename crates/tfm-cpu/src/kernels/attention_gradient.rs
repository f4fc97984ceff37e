//! The gradient of attention over a ragged batch.
//!
//! The weights are computed again from the scores and their saved `log Σ exp`. For every sequence and head there
//! are five small products; queries are taken in blocks, so that no more than a block's weights are
//! in memory.

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
/// overlap, their gradients are added in the order of the sequences.
pub fn attention_gradient(
    isa: Isa,
    threads: &Threads,
    attended: Attended<'_>,
    d_context: &[f32],
    gradients: [&mut [f32]; 3],
) {
    let [query, key, value] = attended.heads;
    let (heads, size) = (query.heads(), query.size());
    assert!([key.heads(), value.heads()] == [heads; 2] && [key.size(), value.size()] == [size; 2]);
    assert!(key.rows() == value.rows() && d_context.len() == attended.context.len());
    assert!(attended.context.len() == query.rows() * heads * size);
    assert!(attended.log_sum_exp.len() == query.rows() * heads);
    let rows = [query.rows(), key.rows(), key.rows()];
    assert!((0..3).all(|i| gradients[i].len() == rows[i] * heads * size));
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
    let tasks = threads.tasks(pairs.saturating_mul(10 * size * heads), items);
    threads.run(tasks, |task| {
        let mut memory = Memory::default();
        for item in share(items, tasks, task) {
            let (head, mine) = if apart {
                (item % heads, item / heads..item / heads + 1)
            } else {
                (item, 0..sequences.len())
            };
            for sequence in &sequences[mine] {
                let (attended, gradients, memory) = (&attended, &gradients, &mut memory);
                let add = !apart;
                isa.run(One { attended, d_context, sequence, head, gradients, add, memory });
            }
        }
    });
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
}

struct One<'a> {
    attended: &'a Attended<'a>,
    d_context: &'a [f32],
    sequence: &'a Sequence,
    head: usize,
    gradients: &'a [SharedMut<'a, f32>; 3],
    /// Whether to add to the gradients, or to write them.
    add: bool,
    memory: &'a mut Memory,
}

impl Kernel for One<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let One { attended, sequence, head, gradients, add, memory, .. } = self;
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
        for from in (first..last).step_by(BLOCK) {
            let m = BLOCK.min(last - from);
            let d_context = |row: usize| &self.d_context[(row * heads + head) * size..][..size];
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
                let hidden = if attended.causal { last - 1 - row } else { 0 };
                let visible = count.saturating_sub(hidden);
                let log_sum = attended.log_sum_exp[row * heads + head];
                let line = i * all..(i + 1) * all;
                let weights = &mut weights[line.clone()];
                let (d_scores, dropped) = (&mut d_scores[line.clone()], &mut memory.dropped[line]);
                exponentials(s, weights, attended.scale, log_sum, visible);
                dropped.copy_from_slice(weights);
                if let Some(dropout) = attended.dropout {
                    let position = (head * query.rows() + row) * key.rows() + start;
                    dropout.apply(s, position as u64, &mut d_scores[..visible]);
                    dropout.apply(s, position as u64, &mut dropped[..visible]);
                }
                let (own, scale) = (s.splat(own), s.splat(attended.scale));
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
mod tests {
    use super::*;
    use crate::kernels::attention::{KeyRows, Training, attention_for_training};
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    const HEADS: usize = 2;

    /// Sequences, among them some without queries, without keys, and with more queries than keys.
    struct Case {
        query_offsets: Vec<i32>,
        key_ranges: Vec<i32>,
        rows: usize,
        size: usize,
        causal: bool,
        dropout: Option<Dropout>,
    }

    impl Case {
        fn queries(&self) -> usize {
            self.query_offsets[self.query_offsets.len() - 1] as usize
        }

        /// The factor of dropout.
        fn kept(&self, head: usize, query: usize, row: usize) -> f64 {
            let Some(Dropout { rate, key, stream }) = self.dropout else { return 1.0 };
            let position = (head * self.queries() + query) * self.rows + row;
            let kept = tfm_core::philox::uniform(key, stream, position) >= rate;
            if kept { 1.0 / (1.0 - rate as f64) } else { 0.0 }
        }

        /// Context, log Σ exp and the three gradients by the definitions, in f64.
        fn reference(&self, [q, k, v]: [Heads<'_>; 3], d_context: &[f32]) -> [Vec<f64>; 5] {
            let (queries, size) = (self.queries(), self.size);
            let mut out =
                [queries * size, queries, queries * size, self.rows * size, self.rows * size]
                    .map(|n| vec![0.0; n * HEADS]);
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum()
            };
            for (own, range) in self.query_offsets.windows(2).zip(self.key_ranges.chunks(2)) {
                for (head, i) in (0..HEADS).flat_map(|h| (own[0]..own[1]).map(move |i| (h, i))) {
                    let hidden = if self.causal { own[1] - 1 - i } else { 0 };
                    let (i, start) = (i as usize, range[0] as usize);
                    let keys = start..start + (range[1] - hidden).max(0) as usize;
                    if keys.is_empty() {
                        continue;
                    }
                    let d = &d_context[(i * HEADS + head) * size..][..size];
                    let scores = keys.clone().map(|j| 0.3 * dot(q.head(i, head), k.head(j, head)));
                    let scores: Vec<f64> = scores.collect();
                    let log_sum = scores.iter().map(|x| x.exp()).sum::<f64>().ln();
                    let weights: Vec<f64> = scores.iter().map(|x| (x - log_sum).exp()).collect();
                    out[1][i * HEADS + head] = log_sum;
                    let d_weight = |j: usize| self.kept(head, i, j) * dot(d, v.head(j, head));
                    let mean: f64 = keys.clone().zip(&weights).map(|(j, w)| w * d_weight(j)).sum();
                    for (j, w) in keys.zip(&weights) {
                        let kept = w * self.kept(head, i, j);
                        let d_score = 0.3 * w * (d_weight(j) - mean);
                        let at = |row: usize| (row * HEADS + head) * size;
                        for (e, &d) in d.iter().enumerate() {
                            out[0][at(i) + e] += kept * v.head(j, head)[e] as f64;
                            out[2][at(i) + e] += d_score * k.head(j, head)[e] as f64;
                            out[3][at(j) + e] += d_score * q.head(i, head)[e] as f64;
                            out[4][at(j) + e] += kept * d as f64;
                        }
                    }
                }
            }
            out
        }
    }

    #[test]
    fn equals_f64_and_any_threads_give_the_same_bits() {
        let ragged = (vec![0, 3, 3, 8, 9, 79], vec![2, 3, 0, 2, 5, 2, 9, 0, 9, 75], 90);
        let overlapping = (vec![0, 4, 12, 20], vec![1, 6, 0, 9, 3, 9], 12);
        let large = ((0..41).map(|i| i * 20).collect(), vec![], 800);
        for (mut case, size) in [(ragged.clone(), 20), (overlapping, 8), (ragged, 64), (large, 64)]
        {
            if case.1.is_empty() {
                case.1 = (0..40).flat_map(|i| [i * 20, 20]).collect();
            }
            let dropout = Dropout { rate: 0.25, key: [1, 2, 3], stream: 9 };
            for (causal, dropout) in [(false, None), (true, Some(dropout)), (true, None)] {
                let (query_offsets, key_ranges, rows) = case.clone();
                let case = Case { query_offsets, key_ranges, rows, size, causal, dropout };
                let (queries, row) = (case.queries(), HEADS * size + 5);
                let data = [(1, queries), (2, rows), (3, rows)].map(|(i, n)| noise(i, n * row));
                let mut heads = [0, 1, 2]
                    .map(|i| Heads::new(&data[i], [data[i].len() / row, HEADS, size], [row, size]));
                // What no sequence covers must not be read.
                let poisoned: Vec<f32> = data[1]
                    .iter()
                    .enumerate()
                    .map(|(e, &x)| if e < row && size != 8 && rows == 90 { f32::NAN } else { x })
                    .collect();
                heads[1] = Heads::new(&poisoned, [rows, HEADS, size], [row, size]);
                let d_context = noise(4, queries * HEADS * size);
                let want = case.reference(heads, &d_context);
                let mut first: Option<(Isa, Vec<f32>)> = None;
                everywhere(|isa, threads| {
                    let mut got = want.each_ref().map(|want| vec![9.0; want.len()]);
                    let [context, log_sum_exp, d_query, d_key, d_value] = &mut got;
                    let (query_offsets, key_ranges) =
                        (&case.query_offsets[..], &case.key_ranges[..]);
                    let key_rows = KeyRows::Ragged { query_offsets, key_ranges, causal };
                    let training = Training { dropout, log_sum_exp: Some(log_sum_exp) };
                    attention_for_training(isa, threads, heads, key_rows, 0.3, training, context);
                    let attended = Attended {
                        heads,
                        query_offsets,
                        key_ranges,
                        causal,
                        scale: 0.3,
                        dropout,
                        context,
                        log_sum_exp,
                    };
                    attention_gradient(
                        isa,
                        threads,
                        attended,
                        &d_context,
                        [d_query, d_key, d_value],
                    );
                    let all: Vec<f32> = got.iter().flatten().copied().collect();
                    for (got, want) in got.iter().zip(&want) {
                        assert_near(got, want, 2e-5);
                    }
                    match &first {
                        Some((set, bits)) if *set == isa => assert_same_bits(&all, bits),
                        _ => first = Some((isa, all)),
                    }
                });
            }
        }
    }
}
