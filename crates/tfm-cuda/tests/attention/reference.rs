//! Attention and its gradient by the definition, in f64.

use crate::case::{Case, Data, Expected, KEY, STREAM};

pub(crate) fn expected(case: &Case, data: &Data) -> Expected {
    let (heads, size, queries) = (case.heads, case.size, case.queries());
    let scale = f64::from(case.scale);
    let at = |row: usize, head: usize| (row * heads + head) * size..(row * heads + head + 1) * size;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut context = vec![0.0; data.query.len()];
    let mut sums = vec![0.0; queries * heads];
    let mut d_query = vec![0.0; data.query.len()];
    let (mut d_key, mut d_value) = (vec![0.0; data.key.len()], vec![0.0; data.key.len()]);
    let mut terms = [0.0; 3];
    let mut d_biases = vec![0.0; data.biases.len()];
    let mut first = 0;
    for &(length, (start, count)) in &case.sequences {
        for (i, head) in (0..length).flat_map(|i| (0..heads).map(move |head| (i, head))) {
            let visible = case.visible(length, count, i);
            if visible == 0 {
                continue;
            }
            let (own, query) = (at(first + i, head), &data.query[at(first + i, head)]);
            let d_context = &data.d_context[own.clone()];
            let keys: Vec<_> = (start..start + visible).map(|row| at(row, head)).collect();
            // The place of the bias of this distance. The last query stands at the last key.
            let place = |j: usize| {
                let distance = j as i64 - (i + count) as i64 + length as i64;
                case.bias.map(|bias| bias.bucket(distance) * heads + head)
            };
            let score = |(j, key): (usize, &std::ops::Range<usize>)| {
                let bias = place(j).map_or(0.0, |place| data.biases[place]);
                scale * dot(query, &data.key[key.clone()]) + bias
            };
            let scores: Vec<f64> = keys.iter().enumerate().map(score).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
            let log_sum = most + sum.ln();
            sums[(first + i) * heads + head] = log_sum;
            let weights: Vec<f64> = scores.iter().map(|s| (s - log_sum).exp()).collect();
            let factor = |j: usize| {
                let Some(rate) = case.rate else { return 1.0 };
                let position = (head * queries + first + i) * case.counted_rows() + start + j;
                let number = tfm_core::philox::uniform(KEY, STREAM, position);
                if number < rate { 0.0 } else { 1.0 / (1.0 - f64::from(rate)) }
            };
            let mut d_weights = vec![0.0; visible];
            for (j, key) in keys.iter().enumerate() {
                let (value, weight) = (&data.value[key.clone()], factor(j) * weights[j]);
                for c in 0..size {
                    context[own.start + c] += weight * value[c];
                    d_value[key.start + c] += weight * d_context[c];
                }
                d_weights[j] = factor(j) * dot(d_context, value);
            }
            let mean = dot(&weights, &d_weights);
            let size_of_mean: f64 = weights.iter().zip(&d_weights).map(|(w, d)| w * d.abs()).sum();
            for (j, key) in keys.iter().enumerate() {
                let d_score = scale * weights[j] * (d_weights[j] - mean);
                let most = scale * weights[j] * (d_weights[j].abs() + size_of_mean);
                let square = |x: &[f64]| most * most * dot(x, x);
                terms[0] += square(&data.key[key.clone()]);
                terms[1] += square(query);
                if let Some(place) = place(j) {
                    d_biases[place] += d_score / scale;
                    terms[2] += (most / scale).powi(2);
                }
                for c in 0..size {
                    d_query[own.start + c] += d_score * data.key[key.start + c];
                    d_key[key.start + c] += d_score * query[c];
                }
            }
        }
        first += length;
    }
    let results = [context, sums, d_query, d_key, d_value, d_biases];
    Expected { results, terms: terms.map(f64::sqrt) }
}
