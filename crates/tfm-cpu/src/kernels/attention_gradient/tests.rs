//! The gradients, and what they are of, against f64.

use super::*;
use crate::kernels::attention::{Options, attention};
use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

use tfm_core::fused::RelativeBias;

const HEADS: usize = 2;
const BIAS: RelativeBias = RelativeBias { buckets: 8, max_distance: 12, bidirectional: true };

/// Sequences, among them some without queries, without keys, and with more queries than keys.
struct Case {
    query_offsets: Vec<i32>,
    key_ranges: Vec<i32>,
    rows: usize,
    size: usize,
    causal: bool,
    dropout: Option<Dropout>,
    /// `[buckets, HEADS]`
    biases: Option<Vec<f32>>,
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

    /// Context, log Σ exp, the three gradients and that of the biases by the definitions, in f64.
    fn reference(&self, [q, k, v]: [Heads<'_>; 3], d_context: &[f32]) -> [Vec<f64>; 6] {
        let (queries, size) = (self.queries(), self.size);
        let buckets = if self.biases.is_some() { BIAS.buckets } else { 0 };
        let mut out =
            [queries * size, queries, queries * size, self.rows * size, self.rows * size, buckets]
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
                let later = own[1] as usize - 1 - i;
                let place = |j: usize| {
                    let distance = (j - start) as i64 - (range[1] as i64 - 1 - later as i64);
                    BIAS.bucket(distance) * HEADS + head
                };
                let bias = |j| self.biases.as_ref().map_or(0.0, |b| f64::from(b[place(j)]));
                let scores =
                    keys.clone().map(|j| 0.3 * dot(q.head(i, head), k.head(j, head)) + bias(j));
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
                    if self.biases.is_some() {
                        out[5][place(j)] += w * (d_weight(j) - mean);
                    }
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
    for (mut case, size) in [(ragged.clone(), 20), (overlapping, 8), (ragged, 64), (large, 64)] {
        if case.1.is_empty() {
            case.1 = (0..40).flat_map(|i| [i * 20, 20]).collect();
        }
        let dropout = Dropout { rate: 0.25, key: [1, 2, 3], stream: 9 };
        let biases = noise(5, BIAS.buckets * HEADS);
        for (causal, dropout, biased) in [
            (false, None, false),
            (true, Some(dropout), false),
            (true, None, false),
            (false, Some(dropout), true),
            (true, None, true),
        ] {
            let (query_offsets, key_ranges, rows) = case.clone();
            let biases = biased.then(|| biases.clone());
            let case = Case { query_offsets, key_ranges, rows, size, causal, dropout, biases };
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
                let [context, log_sum_exp, d_query, d_key, d_value, d_bias] = &mut got;
                let (query_offsets, key_ranges) = (&case.query_offsets[..], &case.key_ranges[..]);
                let key_rows = KeyRows::Ranges { query_offsets, key_ranges };
                let table = case.biases.as_ref();
                let bias = table.map(|table| {
                    let key_rows = (key_rows, causal);
                    DistanceBias::new(BIAS, table, HEADS, [queries, rows], key_rows)
                });
                let bias = bias.as_ref();
                let keys = Keys { causal, bias, ..Keys::new([heads[1], heads[2]], key_rows) };
                let log_sum_exp = &mut log_sum_exp[..];
                let scale = 0.3;
                let options =
                    Options { scale, dropout, log_sum_exp: Some(log_sum_exp), soft_cap: None };
                attention(isa, threads, heads[0], (keys, None), options, context);
                let query = heads[0];
                let forward = Forward { query, keys, scale, dropout, context, log_sum_exp };
                attention_gradient(
                    isa,
                    threads,
                    forward,
                    &d_context,
                    [d_query, d_key, d_value],
                    bias.map(|_| &mut d_bias[..]),
                );
                let all: Vec<f32> = got.iter().flatten().copied().collect();
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    // A bias has thousands of terms.
                    assert_near(got, want, if i < 5 { 2e-5 } else { 2e-4 });
                }
                match &first {
                    Some((set, bits)) if *set == isa => assert_same_bits(&all, bits),
                    _ => first = Some((isa, all)),
                }
            });
        }
    }
}
