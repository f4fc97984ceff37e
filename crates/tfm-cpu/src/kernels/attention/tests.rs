use super::*;
use tfm_core::fused::RelativeBias;

use crate::kernels::distance_bias::DistanceBias;
use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

const HEADS: usize = 3;

/// `[rows, HEADS, size]` inside rows that are five elements longer, as in a joined projection.
fn strided(data: &[f32], size: usize) -> Heads<'_> {
    let stride = HEADS * size + 5;
    Heads::new(data, [data.len() / stride, HEADS, size], [stride, size])
}

/// One query by the definition, in f64.
fn reference(
    query: &[f32],
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    bias: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let dot = |key: &Vec<f32>| query.iter().zip(key).map(|(&q, &k)| q as f64 * k as f64).sum();
    let scores = keys.iter().map(dot).enumerate();
    let scores: Vec<f64> = scores.map(|(j, dot): (_, f64)| dot * 0.3 + bias(j)).collect();
    let max = scores.iter().fold(f64::MIN, |max, &x| max.max(x));
    let weights: Vec<f64> = scores.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let weighted = |d: usize| weights.iter().zip(values).map(move |(w, v)| w * v[d] as f64);
    (0..query.len()).map(|d| weighted(d).sum::<f64>() / if sum > 0.0 { sum } else { 1.0 }).collect()
}

#[test]
fn equals_f64_over_ragged_batches_and_tables_alike() {
    // Sequences without queries, without keys, with more queries than keys, with shared keys.
    let query_offsets = [0, 3, 3, 8, 9, 30];
    let key_ranges = [2, 3, 0, 4, 5, 2, 9, 0, 5, 25];
    for size in [1, 8, 20, 64, 72, 150] {
        let stride = HEADS * size + 5;
        let [q, k, v] = [(1, 30), (2, 31), (3, 31)].map(|(seed, n)| noise(seed, n * stride));
        let heads = [&q, &k, &v].map(|data| strided(data, size));
        let bias = RelativeBias { buckets: 10, max_distance: 15, bidirectional: true };
        let biases = noise(4, 10 * HEADS);
        // A table has each query stand at the last of its keys: biases are compared where that is
        // so.
        for (causal, biased) in [(false, false), (true, false), (true, true)] {
            let (mut want, mut table, mut lengths) = (vec![], vec![], vec![]);
            for (sequence, range) in query_offsets.windows(2).zip(key_ranges.chunks(2)) {
                for i in sequence[0]..sequence[1] {
                    let hidden = if causal { sequence[1] - 1 - i } else { 0 };
                    let rows = range[0]..range[0] + (range[1] - hidden).max(0);
                    lengths.push(rows.len() as i32);
                    table.extend(rows.clone().chain(std::iter::repeat(30)).take(25));
                    for head in 0..HEADS {
                        let pick = |x: Heads<'_>| -> Vec<Vec<f32>> {
                            rows.clone().map(|row| x.head(row as usize, head).to_vec()).collect()
                        };
                        let (keys, values) = (pick(heads[1]), pick(heads[2]));
                        let query = heads[0].head(i as usize, head);
                        let last = rows.len() as i64 - 1;
                        want.extend(reference(query, &keys, &values, |j| {
                            let bucket = bias.bucket(j as i64 - last);
                            if biased { biases[bucket * HEADS + head] as f64 } else { 0.0 }
                        }));
                    }
                }
            }
            everywhere(|isa, threads| {
                let run = |rows| {
                    let mut out = vec![9.0; 30 * HEADS * size];
                    let new = || DistanceBias::new(bias, &biases, HEADS, [30, 31], (rows, causal));
                    let bias = biased.then(new);
                    let [query, key, value] = heads;
                    let bias = bias.as_ref();
                    let keys = Keys { causal, bias, ..Keys::new([key, value], rows) };
                    let options = Options { scale: 0.3, ..Options::default() };
                    attention(isa, threads, query, (keys, None), options, &mut out);
                    out
                };
                let (query_offsets, key_ranges) = (&query_offsets[..], &key_ranges[..]);
                let ragged = run(KeyRows::Ranges { query_offsets, key_ranges });
                assert_near(&ragged, &want, 2e-6);
                let (row_table, lengths) = (&table[..], &lengths[..]);
                assert_same_bits(&run(KeyRows::Table { row_table, lengths }), &ragged);
            });
        }
    }
}

#[test]
fn a_sequence_keeps_its_bits_in_any_company_and_with_any_threads() {
    let (size, lengths) = (64, [5, 130, 1, 260, 77]);
    let mut offsets = vec![0];
    lengths.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
    let ranges: Vec<i32> = (0..5).flat_map(|s| [offsets[s], lengths[s]]).collect();
    let rows = offsets[5] as usize;
    let row = HEADS * size + 5;
    let [q, k, v] = [4, 5, 6].map(|seed| noise(seed, rows * row));
    everywhere(|isa, threads| {
        let run = |range: Range<usize>, query_offsets: &[i32], key_ranges: &[i32]| {
            let parts = [&q, &k, &v].map(|x| strided(&x[range.start * row..range.end * row], size));
            let mut out = vec![9.0; range.len() * HEADS * size];
            let rows = KeyRows::Ranges { query_offsets, key_ranges };
            let [query, key, value] = parts;
            let keys = Keys { causal: true, ..Keys::new([key, value], rows) };
            let options = Options { scale: 0.125, ..Options::default() };
            attention(isa, threads, query, (keys, None), options, &mut out);
            out
        };
        let all = run(0..rows, &offsets, &ranges);
        for s in 0..5 {
            let mine = offsets[s] as usize..offsets[s + 1] as usize;
            let alone = run(mine.clone(), &[0, lengths[s]], &[0, lengths[s]]);
            assert_same_bits(&alone, &all[mine.start * HEADS * size..mine.end * HEADS * size]);
        }
    });
}

#[test]
fn keys_in_bf16_give_the_bits_of_the_same_numbers_in_f32() {
    use half::bf16;
    for size in [1, 20, 64, 150] {
        let stride = HEADS * size + 5;
        let [q, k, v] = [(1, 30), (2, 31), (3, 31)].map(|(seed, n)| noise(seed, n * stride));
        let short = [&k, &v].map(|x| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>());
        let long = short.each_ref().map(|x| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
        let shape = [31, HEADS, size];
        let query_offsets = &[0, 3, 30][..];
        let key_ranges = &[2, 7, 9, 22][..];
        let row_table: &[i32] = &std::array::from_fn::<_, 60, _>(|i| i as i32 * 7 % 31);
        for rows in [
            KeyRows::Ranges { query_offsets, key_ranges },
            KeyRows::Table { row_table, lengths: &[2; 30] },
        ] {
            everywhere(|isa, threads| {
                let [mut got, mut want] = [(); 2].map(|()| vec![9.0; 30 * HEADS * size]);
                let options = || Options { scale: 0.3, ..Options::default() };
                let kept = short.each_ref().map(|x| Heads::new(x, shape, [stride, size]));
                let query = strided(&q, size);
                let keys = (Keys::new(kept, rows), None);
                attention(isa, threads, query, keys, options(), &mut got);
                let kept = long.each_ref().map(|x| strided(x, size));
                let keys = (Keys::new(kept, rows), None);
                attention(isa, threads, query, keys, options(), &mut want);
                assert_same_bits(&got, &want);
            });
        }
    }
}
