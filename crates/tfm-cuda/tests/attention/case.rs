//! A problem of attention: its sequences, its data, and the kernels that compute it.

use half::{bf16, f16};
use tfm_core::DType;
use tfm_core::fused::RelativeBias;

/// A problem. It determines its data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) dtype: DType,
    /// The size that the tile kernels pad heads to; `None` for the plain kernels.
    pub(crate) padded: Option<usize>,
    pub(crate) heads: usize,
    pub(crate) size: usize,
    pub(crate) causal: bool,
    pub(crate) rate: Option<f32>,
    pub(crate) bias: Option<RelativeBias>,
    pub(crate) scale: f32,
    /// For each sequence the number of queries, the row where its keys begin, and their number.
    pub(crate) sequences: Vec<(usize, (usize, usize))>,
    /// Rows of keys, including those that belong to no sequence.
    pub(crate) rows: usize,
    /// The number of rows that the kernel is told, if it is another. It touches no row beyond the
    /// real ones, but the number counts in the positions of dropout.
    pub(crate) claimed_rows: Option<usize>,
    /// Offsets and ranges that the kernel is told in place of the right ones.
    pub(crate) wild: Option<[Vec<i32>; 2]>,
    /// Decides the data.
    pub(crate) seed: u32,
}

/// The numbers of a problem: rows of `[heads, size]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Data {
    pub(crate) query: Vec<f64>,
    pub(crate) key: Vec<f64>,
    pub(crate) value: Vec<f64>,
    pub(crate) d_context: Vec<f64>,
    /// `[buckets, heads]`; empty where there are no biases.
    pub(crate) biases: Vec<f64>,
}

/// Context, log Σ exp, and the gradients of query, key, value and biases.
pub(crate) type Results = [Vec<f64>; 6];

/// The expected results.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    pub(crate) results: Results,
    /// The norms of the terms that make up the gradients of query, key and biases, without the
    /// terms' signs.
    pub(crate) terms: [f64; 3],
}

/// The seed and the step of dropout.
pub(crate) const KEY: [i32; 3] = [7, -3, 11];
/// The stream of dropout.
pub(crate) const STREAM: u32 = 5;

impl Case {
    /// Sequences with these numbers of queries and keys. The keys of each lie behind those of the
    /// sequence before.
    pub(crate) fn new(dtype: DType, size: usize, lengths: &[(usize, usize)]) -> Case {
        let mut rows = 0;
        let mut sequences = Vec::new();
        for &(queries, keys) in lengths {
            sequences.push((queries, (rows, keys)));
            rows += keys;
        }
        Case {
            dtype,
            padded: padded(dtype, size, &[32, 64, 96, 128, 256]),
            heads: 1,
            size,
            causal: false,
            rate: None,
            bias: None,
            scale: (size as f32).powf(-0.5),
            sequences,
            rows,
            claimed_rows: None,
            wild: None,
            seed: 0,
        }
    }

    /// The case with biases. With them, the kernels pad heads to fewer sizes.
    pub(crate) fn biased(self, buckets: usize, max_distance: usize, bidirectional: bool) -> Case {
        let padded = self.padded.and(padded(self.dtype, self.size, &[64, 128]));
        let bias = Some(RelativeBias { buckets, max_distance, bidirectional });
        Case { padded, bias, ..self }
    }

    /// A rate that equals the random number of one of the first weights, which is then kept.
    pub(crate) fn tie() -> f32 {
        let mut numbers = (0..100).map(|i| tfm_core::philox::uniform(KEY, STREAM, i));
        numbers.find(|x| (0.3..0.6).contains(x)).unwrap()
    }

    /// One sequence of 10 queries and 40 keys, with wrong offsets and ranges.
    pub(crate) fn wild(dtype: DType, size: usize) -> impl Iterator<Item = Case> {
        let ranges = [[30, 50], [-5, 20], [3, -7], [i32::MAX, i32::MAX], [0, i32::MAX]];
        let ranges = ranges.map(|range| [vec![0, 10], range.to_vec()]);
        let offsets = [[-3, 10], [5, 100], [70, 10], [90, 200], [-200, -100], [8, 3]];
        let offsets = offsets.map(|offsets| [offsets.to_vec(), vec![0, 40]]);
        let case = Case::new(dtype, size, &[(10, 40)]);
        ranges.into_iter().chain(offsets).map(move |wild| Case { wild: Some(wild), ..case.clone() })
    }

    pub(crate) fn queries(&self) -> usize {
        self.sequences.iter().map(|s| s.0).sum()
    }

    /// The number of rows that the kernel is told.
    pub(crate) fn counted_rows(&self) -> usize {
        self.claimed_rows.unwrap_or(self.rows)
    }

    /// The query at which each sequence begins, and the end of the last.
    pub(crate) fn offsets(&self) -> Vec<i32> {
        let ends = self.sequences.iter().scan(0, |end, s| {
            *end += s.0 as i32;
            Some(*end)
        });
        [0].into_iter().chain(ends).collect()
    }

    pub(crate) fn ranges(&self) -> Vec<i32> {
        self.sequences.iter().flat_map(|(_, keys)| [keys.0 as i32, keys.1 as i32]).collect()
    }

    /// Whether a sequence has this row of keys and one of its queries sees it.
    pub(crate) fn is_used(&self, row: usize) -> bool {
        self.sequences
            .iter()
            .any(|(queries, keys)| *queries > 0 && (keys.0..keys.0 + keys.1).contains(&row))
    }

    /// The number of keys that query i of a sequence sees.
    pub(crate) fn visible(&self, queries: usize, keys: usize, i: usize) -> usize {
        if self.causal { keys.saturating_sub(queries - 1 - i) } else { keys }
    }

    pub(crate) fn data(&self) -> Data {
        let rows = |part: u32, n: usize, size: f64| -> Vec<f64> {
            let numbers = noise(self.seed * 16 + part, n * self.heads * self.size);
            numbers.into_iter().map(|x| round(self.dtype, size * x)).collect()
        };
        let queries = self.queries();
        let biases = self.bias.map_or(0, |bias| bias.buckets * self.heads);
        let biases = noise(self.seed * 16 + 5, biases).into_iter();
        Data {
            biases: biases.map(|x| f64::from(2.0 * x as f32)).collect(),
            query: rows(1, queries, 3.0),
            key: rows(2, self.rows, 3.0),
            value: rows(3, self.rows, 2.0),
            d_context: rows(4, queries, 2.0),
        }
    }

    /// The errors that are allowed, as shares of the result: for context, log Σ exp, and the
    /// gradients.
    pub(crate) fn bounds(&self) -> [f64; 6] {
        let bound = match self.dtype {
            DType::F16 => 1e-3,
            DType::BF16 => 5e-3,
            _ => 1e-5,
        };
        // log Σ exp is not rounded to the type.
        [bound, 1e-5, 2.0 * bound, 2.0 * bound, 2.0 * bound, 2.0 * bound]
    }

    /// Compares all results. The error says what is wrong.
    pub(crate) fn compare(&self, found: &Results, wanted: &Expected) -> Result<(), String> {
        (0..6).try_for_each(|i| self.compare_one(i, &found[i], wanted))
    }

    /// Compares one of the results. The norm of all errors is bounded, and that of each row's
    /// errors with a bound 8 times as wide. Where a gradient sums terms that cancel, the bound is
    /// relative to the terms, since rounding errors are.
    pub(crate) fn compare_one(
        &self,
        i: usize,
        found: &[f64],
        wanted: &Expected,
    ) -> Result<(), String> {
        let name = ["context", "log_sum_exp", "d_query", "d_key", "d_value", "d_bias"][i];
        let width = [self.size, 1, self.size, self.size, self.size, self.heads][i];
        let bound = self.bounds()[i];
        let expected = &wanted.results[i];
        if found.len() != expected.len() {
            return Err(format!("{name}: {} of {}", found.len(), expected.len()));
        }
        let floor = match i {
            2 | 3 => wanted.terms[i - 2] / 2.0,
            5 => wanted.terms[2] / 2.0,
            _ => 0.0,
        };
        let all = norm(expected).max(floor);
        let differences: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        let error = norm(&differences);
        if error.is_nan() || error > bound * all {
            return Err(format!("{name}: an error of {error:e}, allowed are {:e}", bound * all));
        }
        let average = all / ((expected.len() / width).max(1) as f64).sqrt();
        for (row, differences) in differences.chunks(width).enumerate() {
            let own = norm(&expected[row * width..][..width]).max(average);
            let error = norm(differences);
            if error > 8.0 * bound * own {
                return Err(format!("{name}, row {row}: {error:e} of {own:e}"));
            }
        }
        Ok(())
    }
}

/// The size that heads are padded to; `None` where the tile kernels do not take them.
fn padded(dtype: DType, size: usize, sizes: &[usize]) -> Option<usize> {
    let padded = sizes.iter().copied().find(|padded| size <= *padded);
    padded.filter(|_| dtype != DType::F32 && size.is_multiple_of(8))
}

/// The nearest number of the type.
pub(crate) fn round(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(x).to_f64(),
        DType::BF16 => bf16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}

/// Numbers as bytes of the type.
pub(crate) fn bytes_of(dtype: DType, x: &[f64]) -> Vec<u8> {
    match dtype {
        DType::F16 => x.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect(),
        DType::BF16 => x.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect(),
        _ => x.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
    }
}

/// The numbers that bytes of the type are.
pub(crate) fn numbers_of(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let decode = |b: &[u8]| match dtype {
        DType::F16 => f16::from_le_bytes([b[0], b[1]]).to_f64(),
        DType::BF16 => bf16::from_le_bytes([b[0], b[1]]).to_f64(),
        _ => f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
    };
    bytes.chunks(dtype.size()).map(decode).collect()
}

pub(crate) fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Numbers in [-1, 1) that look random.
pub(crate) fn noise(seed: u32, n: usize) -> Vec<f64> {
    let mut x = seed.wrapping_mul(2654435761).wrapping_add(12345);
    let mut next = || {
        x = x.wrapping_mul(1664525).wrapping_add(1013904223);
        f64::from(x >> 8) / f64::from(1 << 23) - 1.0
    };
    (0..n).map(|_| next()).collect()
}
