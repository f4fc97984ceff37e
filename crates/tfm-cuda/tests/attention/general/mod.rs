//! The general kernels of attention against f64, interpreted without host code: groups of heads,
//! windows, a cap of the scores, two sets of keys, each by ranges or by a table. A `Problem` and
//! its definition are here; `run` runs the kernels, `properties` has the tests, and `mutants` shows
//! that they notice faults.

mod mutants;
mod properties;
mod run;

use crate::case::{KEY, STREAM, noise, norm, round};
use tfm_core::DType;
use tfm_core::fused::RelativeBias;

/// Which of the kernels computes a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernels {
    /// That of tiles, with heads padded to this size.
    Tiles(usize),
    Plain,
    /// That of single queries with loads of 16 bytes for heads up to this size.
    Single(usize),
    /// That of single queries with other loads.
    SingleAny,
}

/// How queries find the keys of a set.
#[derive(Debug, Clone, PartialEq)]
enum Lookup {
    /// For each sequence the number of queries, the row where its keys begin, and their number.
    Ranges(Vec<(usize, (usize, usize))>),
    /// A table of so many columns and lengths, one for each query.
    Table(usize, Vec<i32>, Vec<i32>),
}

/// A set of keys.
#[derive(Debug, Clone, PartialEq)]
struct Set {
    lookup: Lookup,
    rows: usize,
    kv_heads: usize,
    causal: bool,
    window: Option<usize>,
    bias: Option<RelativeBias>,
}

/// A problem. It determines its data.
#[derive(Debug, Clone, PartialEq)]
struct Problem {
    dtype: DType,
    kernels: Kernels,
    queries: usize,
    heads: usize,
    size: usize,
    scale: f32,
    cap: Option<f32>,
    rate: Option<f32>,
    sets: Vec<Set>,
    /// Offsets and ranges, or table and lengths, that the kernel is told of the first set in place
    /// of the right ones.
    wild: Option<[Vec<i32>; 2]>,
    seed: u32,
}

/// The keys and values of a set as rows of `[kv_heads, size]`, and its biases `[buckets, heads]`.
#[derive(Debug, Clone, PartialEq)]
struct SetData {
    key: Vec<f64>,
    value: Vec<f64>,
    biases: Vec<f64>,
}

/// The numbers of a problem.
#[derive(Debug, Clone, PartialEq)]
struct Data {
    query: Vec<f64>,
    sets: Vec<SetData>,
}

impl Set {
    /// Sequences with these numbers of queries and keys, one behind the other, in as many heads.
    fn ranges(heads: usize, lengths: &[(usize, usize)]) -> Set {
        let mut rows = 0;
        let mut sequences = Vec::new();
        for &(queries, keys) in lengths {
            sequences.push((queries, (rows, keys)));
            rows += keys;
        }
        let lookup = Lookup::Ranges(sequences);
        Set { lookup, rows, kv_heads: heads, causal: false, window: None, bias: None }
    }

    /// Queries with so many keys, whose rows lie scattered in a cache. A query has the same rows at
    /// the same places, however wide the table is.
    fn table(heads: usize, lengths: &[usize], width: usize) -> Set {
        let rows = width + 7;
        let row = |i: usize, j: usize| ((i * 31 + j * 13) % rows) as i32;
        let table = (0..lengths.len()).flat_map(|i| (0..width).map(move |j| row(i, j))).collect();
        let lengths = lengths.iter().map(|length| *length as i32).collect();
        let lookup = Lookup::Table(width, table, lengths);
        Set { lookup, rows, kv_heads: heads, causal: false, window: None, bias: None }
    }

    fn biased(self, buckets: usize, max_distance: usize, bidirectional: bool) -> Set {
        Set { bias: Some(RelativeBias { buckets, max_distance, bidirectional }), ..self }
    }

    fn queries(&self) -> usize {
        match &self.lookup {
            Lookup::Ranges(sequences) => sequences.iter().map(|s| s.0).sum(),
            Lookup::Table(_, _, lengths) => lengths.len(),
        }
    }

    /// Row and distance of every key that query i sees.
    fn seen(&self, i: usize) -> Vec<(usize, i64)> {
        let (rows, position): (Vec<i64>, i64) = match &self.lookup {
            Lookup::Ranges(sequences) => {
                let mut first = 0;
                let of = sequences.iter().find(|s| {
                    first += s.0;
                    i < first
                });
                let &(queries, (start, count)) = of.expect("each query has a sequence");
                let position = (i + queries - first + count) as i64 - queries as i64;
                ((start..start + count).map(|row| row as i64).collect(), position)
            }
            Lookup::Table(width, table, lengths) => {
                let length = lengths[i].clamp(0, *width as i32) as usize;
                let rows = table[i * width..][..length].iter().map(|row| i64::from(*row));
                (rows.collect(), length as i64 - 1)
            }
        };
        let with_distance = rows.iter().enumerate().map(|(j, row)| (*row, j as i64 - position));
        with_distance
            .filter(|(row, _)| (0..self.rows as i64).contains(row))
            .filter(|(_, distance)| !self.causal || *distance <= 0)
            .filter(|(_, distance)| {
                self.window.is_none_or(|window| distance.unsigned_abs() < window as u64)
            })
            .map(|(row, distance)| (row as usize, distance))
            .collect()
    }
}

impl Problem {
    /// Attention to sets whose keys all lie in ranges, by the kernel for such operands.
    fn by_ranges(dtype: DType, heads: usize, size: usize, sets: Vec<Set>) -> Problem {
        let padded = [64, 128, 256].into_iter().find(|padded| size <= *padded);
        let padded = padded.filter(|_| dtype != DType::F32 && size.is_multiple_of(8));
        let kernels = padded.map_or(Kernels::Plain, Kernels::Tiles);
        Problem {
            dtype,
            kernels,
            queries: sets[0].queries(),
            heads,
            size,
            scale: (size as f32).powf(-0.5),
            cap: None,
            rate: None,
            sets,
            wild: None,
            seed: 0,
        }
    }

    /// Attention of single queries to sets of any kind.
    fn single(dtype: DType, heads: usize, size: usize, sets: Vec<Set>) -> Problem {
        let whole = (size * dtype.size()).is_multiple_of(16);
        let loaded = [128, 256].into_iter().find(|loaded| size <= *loaded && whole);
        let kernels = loaded.map_or(Kernels::SingleAny, Kernels::Single);
        Problem { kernels, ..Problem::by_ranges(dtype, heads, size, sets) }
    }

    fn data(&self) -> Data {
        let floats = |part: u32, n: usize, size: f64| -> Vec<f64> {
            let numbers = noise(self.seed * 16 + part, n);
            numbers.into_iter().map(|x| round(self.dtype, size * x)).collect()
        };
        let of_set = |(n, set): (usize, &Set)| {
            let (part, width) = (4 * n as u32, set.kv_heads * self.size);
            let buckets = set.bias.map_or(0, |bias| bias.buckets);
            let biases = noise(self.seed * 16 + part + 3, buckets * self.heads);
            SetData {
                key: floats(part + 1, set.rows * width, 3.0),
                value: floats(part + 2, set.rows * width, 2.0),
                biases: biases.into_iter().map(|x| f64::from(2.0 * x as f32)).collect(),
            }
        };
        Data {
            query: floats(9, self.queries * self.heads * self.size, 3.0),
            sets: self.sets.iter().enumerate().map(of_set).collect(),
        }
    }

    /// Context and log Σ exp by the definition.
    fn expected(&self, data: &Data) -> [Vec<f64>; 2] {
        let (heads, size) = (self.heads, self.size);
        let (mut context, mut sums) =
            (vec![0.0; data.query.len()], vec![0.0; self.queries * heads]);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (i, head) in (0..self.queries).flat_map(|i| (0..heads).map(move |head| (i, head))) {
            let query = &data.query[(i * heads + head) * size..][..size];
            let mut keys: Vec<(f64, f64, &[f64])> = Vec::new();
            for (set, numbers) in self.sets.iter().zip(&data.sets) {
                let key_head = head / (heads / set.kv_heads);
                for (row, distance) in set.seen(i) {
                    let at = (row * set.kv_heads + key_head) * size;
                    let product = f64::from(self.scale) * dot(query, &numbers.key[at..][..size]);
                    let capped = self.cap.map(f64::from);
                    let score = capped.map_or(product, |cap| cap * (product / cap).tanh());
                    let bucket = set.bias.map(|bias| bias.bucket(distance) * heads + head);
                    let bias = bucket.map_or(0.0, |bucket| numbers.biases[bucket]);
                    let position = (head * self.queries + i) * set.rows + row;
                    let number = tfm_core::philox::uniform(KEY, STREAM, position);
                    let factor = self.rate.map_or(1.0, |rate| {
                        if number < rate { 0.0 } else { 1.0 / (1.0 - f64::from(rate)) }
                    });
                    keys.push((score + bias, factor, &numbers.value[at..][..size]));
                }
            }
            if keys.is_empty() {
                continue;
            }
            let most = keys.iter().map(|key| key.0).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = keys.iter().map(|key| (key.0 - most).exp()).sum();
            sums[i * heads + head] = most + sum.ln();
            for (score, factor, value) in keys {
                let weight = factor * (score - most).exp() / sum;
                for (c, x) in value.iter().enumerate() {
                    context[(i * heads + head) * size + c] += weight * x;
                }
            }
        }
        [context, sums]
    }

    /// Compares context and, where the kernel gives it, log Σ exp. The norm of all errors is
    /// bounded, and that of each row's errors with a bound 8 times as wide.
    fn compare(&self, found: &[Vec<f64>], wanted: &[Vec<f64>; 2]) -> Result<(), String> {
        let bound = match self.dtype {
            DType::F16 => 1e-3,
            DType::BF16 => 5e-3,
            _ => 1e-5,
        };
        let parts = [("context", self.size, bound), ("log_sum_exp", 1, 1e-5)];
        for ((name, width, bound), (found, wanted)) in
            parts.into_iter().zip(found.iter().zip(wanted))
        {
            assert_eq!(found.len(), wanted.len(), "{name}");
            let all = norm(wanted);
            let differences: Vec<f64> = found.iter().zip(wanted).map(|(a, b)| a - b).collect();
            let error = norm(&differences);
            if error.is_nan() || error > bound * all {
                return Err(format!(
                    "{name}: an error of {error:e}, allowed are {:e}",
                    bound * all
                ));
            }
            let average = all / ((wanted.len() / width).max(1) as f64).sqrt();
            for (row, differences) in differences.chunks(width).enumerate() {
                let own = norm(&wanted[row * width..][..width]).max(average);
                let error = norm(differences);
                if error > 8.0 * bound * own {
                    return Err(format!("{name}, row {row}: {error:e} of {own:e}"));
                }
            }
        }
        Ok(())
    }
}
