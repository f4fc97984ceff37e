//! The kernels of attention in a decoding step against f64: lengths around every chunk, all sizes
//! of heads, tables that name missing rows. A hypothesis has the same bits however wide the table
//! is. The tests also count how much memory is read.

mod arrays;

use arrays::{TYPES, decode, encode, name, noise};
use std::sync::LazyLock;
use tfm_core::DType;
use tfm_core::fused::RelativeBias;
use tfm_ptx_emu::{Counters, Device, Launch, Module};

static MODULE: LazyLock<Module> = LazyLock::new(|| {
    Module::parse(include_str!("../kernels/row_table_attention.ptx"))
        .unwrap_or_else(|error| panic!("{error}"))
});
static BIASED: LazyLock<Module> = LazyLock::new(|| {
    Module::parse(include_str!("../kernels/row_table_attention_biased.ptx"))
        .unwrap_or_else(|error| panic!("{error}"))
});
const CHUNK: usize = 64;

struct Case {
    dtype: DType,
    heads: usize,
    d_head: usize,
    rows: usize,
    /// Elements in the gap between two rows of the cache.
    gap: usize,
    width: usize,
    table: Vec<i32>,
    lengths: Vec<i32>,
    bias: Option<RelativeBias>,
}

impl Case {
    /// Hypotheses of these lengths, whose rows lie scattered in a cache.
    fn new(dtype: DType, heads: usize, d_head: usize, lengths: &[usize], width: usize) -> Case {
        let rows = width + 7;
        // A hypothesis has the same rows at the same places, however wide the table is.
        let table = (0..lengths.len())
            .flat_map(|i| (0..width).map(move |j| ((i * 31 + j * 13) % 71) as i32))
            .map(|row| row % rows as i32)
            .collect();
        let lengths = lengths.iter().map(|length| *length as i32).collect();
        Case { dtype, heads, d_head, rows, gap: 0, width, table, lengths, bias: None }
    }

    fn row(&self) -> usize {
        self.heads * self.d_head + self.gap
    }

    /// Query, keys and values, rounded to the type.
    fn inputs(&self) -> [Vec<f64>; 3] {
        let sizes = [
            self.lengths.len() * self.heads * self.d_head,
            self.rows * self.row(),
            self.rows * self.row(),
        ];
        [0, 1, 2].map(|i| decode(self.dtype, &encode(self.dtype, &noise(i as i32, sizes[i]))))
    }

    /// `[buckets, heads]`; empty where there are no biases.
    fn biases(&self) -> Vec<f64> {
        decode(
            DType::F32,
            &encode(DType::F32, &noise(3, self.bias.map_or(0, |b| b.buckets * self.heads))),
        )
    }

    /// The result by the definition.
    fn expected(&self) -> Vec<f64> {
        let ([query, key, value], biases) = (self.inputs(), self.biases());
        let (heads, d) = (self.heads, self.d_head);
        let scale = (d as f64).powf(-0.5);
        let mut out = Vec::new();
        for (i, head) in (0..self.lengths.len()).flat_map(|i| (0..heads).map(move |h| (i, h))) {
            let seen = (self.lengths[i].max(0) as usize).min(self.width);
            // Where each visible row lies, and its bias.
            let rows: Vec<(usize, f64)> = self.table[i * self.width..][..seen]
                .iter()
                .enumerate()
                .filter(|(_, row)| (0..self.rows as i32).contains(*row))
                .map(|(j, row)| {
                    let bucket = self.bias.map(|bias| bias.bucket(j as i64 - (seen as i64 - 1)));
                    let bias = bucket.map_or(0.0, |bucket| biases[bucket * heads + head]);
                    (*row as usize * self.row() + head * d, bias)
                })
                .collect();
            let q = &query[(i * heads + head) * d..][..d];
            let dot = |row: usize| q.iter().zip(&key[row..]).map(|(a, b)| a * b).sum::<f64>();
            let weight = |(row, bias): &(usize, f64)| (dot(*row) * scale + bias).exp();
            let weights: Vec<f64> = rows.iter().map(weight).collect();
            let sum: f64 = weights.iter().sum();
            out.extend((0..d).map(|at| {
                let terms =
                    rows.iter().zip(&weights).map(|(row, weight)| weight * value[row.0 + at]);
                if rows.is_empty() { 0.0 } else { terms.sum::<f64>() / sum }
            }));
        }
        out
    }

    /// The kernels' answer as bytes, and their counters.
    fn run(&self, seed: u64) -> (Vec<u8>, Counters) {
        let (n, heads, d) = (self.lengths.len(), self.heads, self.d_head);
        let size = self.dtype.size();
        let mut device = Device::new();
        let [query, key, value] = self.inputs().map(|x| device.upload(&encode(self.dtype, &x)));
        let integers = |x: &[i32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let table = device.upload(&integers(&self.table));
        let lengths = device.upload(&integers(&self.lengths));
        let chunks = self.width.div_ceil(CHUNK).max(1);
        // The memory stays unwritten, so that a read finds what the kernels leave out.
        let out = device.allocate(n * heads * d * size);
        let partial =
            if chunks == 1 { 0 } else { device.allocate(n * heads * chunks * (d + 2) * 4) };
        let aligned = (d * size).is_multiple_of(16) && (self.row() * size).is_multiple_of(16);
        let name = name(self.dtype);
        let long = |x: u64| x.to_le_bytes().to_vec();
        let int = |x: usize| (x as u32).to_le_bytes().to_vec();
        let (row, head) = (long(self.row() as u64), long(d as u64));
        let arguments = [
            vec![long(query), long((heads * d) as u64), head.clone()],
            vec![long(key), row.clone(), head.clone(), long(value), row, head, int(self.rows)],
            vec![long(table), int(self.width), long(lengths), int(d)],
            vec![(d as f32).powf(-0.5).to_le_bytes().to_vec(), long(out), long(partial)],
            self.bias_arguments(&mut device),
        ]
        .concat();
        let biased = self.bias.is_some();
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let launch = Launch {
            blocks: [n as u32, heads as u32, chunks as u32],
            threads: [128, 1, 1],
            shared: 16 * (d + 2) + if biased { 4 * CHUNK } else { 0 },
            seed,
            ..Launch::default()
        };
        let bucket = [64, 128, 256].into_iter().find(|size| d <= *size).unwrap().to_string();
        let bucket = if aligned { &bucket } else { "any" };
        let biased_name = if biased { "_biased" } else { "" };
        let kernel = format!("row_table_attention{biased_name}_{name}_{bucket}");
        let module = if biased { &BIASED } else { &MODULE };
        let counters = device
            .launch(module, &kernel, &launch, &arguments)
            .unwrap_or_else(|fault| panic!("{fault}"));
        if chunks > 1 {
            let all = n * heads * d;
            let arguments = [
                vec![
                    long(partial),
                    long(lengths),
                    int(self.width),
                    int(heads),
                    int(d),
                    int(chunks),
                ],
                vec![long(out), int(all)],
            ]
            .concat();
            let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let launch = Launch {
                blocks: [all.div_ceil(256) as u32, 1, 1],
                threads: [256, 1, 1],
                seed,
                ..Launch::default()
            };
            device
                .launch(&MODULE, &format!("merge_chunks_{name}"), &launch, &arguments)
                .unwrap_or_else(|fault| panic!("{fault}"));
        }
        (device.download(out, n * heads * d * size).unwrap(), counters)
    }

    /// Biases and buckets, as the host code passes them.
    fn bias_arguments(&self, device: &mut Device) -> Vec<Vec<u8>> {
        let Some(bias) = self.bias else { return Vec::new() };
        let biases = device.upload(&encode(DType::F32, &self.biases()));
        let mut buckets = [bias.exact(), bias.after(), bias.reach()].map(|x| x as i32).to_vec();
        buckets.extend(bias.beginnings().iter().map(|begin| *begin as i32));
        buckets.resize(3 + 31, i32::MAX);
        let buckets = buckets.iter().flat_map(|x| x.to_le_bytes()).collect();
        vec![biases.to_le_bytes().to_vec(), buckets]
    }

    fn check(&self, seed: u64) -> Vec<u8> {
        let (bytes, _) = self.run(seed);
        let about = format!("{} {}×{}, width {}", self.dtype, self.heads, self.d_head, self.width);
        let found = decode(self.dtype, &bytes);
        if let Err(problem) = arrays::check(self.dtype, &found, &self.expected()) {
            panic!("{about}: {problem}");
        }
        bytes
    }
}

/// All lengths of a chunk, and some longer ones, in one launch.
#[test]
fn every_length() {
    for dtype in TYPES {
        let lengths: Vec<usize> = (0..=CHUNK).collect();
        Case::new(dtype, 1, 64, &lengths, CHUNK).check(1);
        let lengths = [0, 1, 63, 64, 65, 100, 127, 128, 129, 191, 192, 193];
        Case::new(dtype, 2, 64, &lengths, 193).check(2);
    }
}

/// Learned biases by distance from the last key, for every length and kind of head. A missing row
/// keeps its place.
#[test]
fn biases_by_distance() {
    for (n, dtype) in TYPES.into_iter().enumerate() {
        let bias = RelativeBias { buckets: 16, max_distance: 30, bidirectional: n == 1 };
        let biased = |case: Case| Case { bias: Some(bias), ..case };
        let lengths: Vec<usize> = (0..=CHUNK).collect();
        biased(Case::new(dtype, 2, 64, &lengths, CHUNK)).check(1);
        let lengths = [0, 1, 63, 64, 65, 127, 128, 129, 193];
        biased(Case::new(dtype, 2, 64, &lengths, 193)).check(2);
        for d_head in [1, 63, 128, 256] {
            biased(Case::new(dtype, 2, d_head, &[5, 70], 70)).check(1);
        }
        let mut case = biased(Case { rows: 9, ..Case::new(dtype, 1, 64, &[40, 90], 70) });
        for (at, row) in [(0, -1), (3, 9), (69, i32::MIN)] {
            case.table[at] = row;
        }
        case.check(1);
    }
}

/// Heads that the kernels load 16 bytes at a time, and heads that they do not.
#[test]
fn every_kind_of_head() {
    for dtype in TYPES {
        for d_head in [1, 3, 8, 40, 63, 65, 80, 100, 128, 129, 192, 255, 256] {
            let case = Case::new(dtype, 2, d_head, &[5, 70], 70);
            case.check(1);
            Case { gap: 3, ..case }.check(2);
        }
    }
}

#[test]
fn a_hypothesis_has_the_same_bits_in_any_company() {
    for dtype in TYPES {
        let rows = 71;
        let alone = Case { rows, ..Case::new(dtype, 2, 40, &[50], CHUNK) }.check(1);
        let among = Case { rows, ..Case::new(dtype, 2, 40, &[50, 200, 0], 200) }.check(2);
        assert_eq!(alone, among[..alone.len()], "{dtype}");
    }
}

#[test]
fn rows_that_are_not_there_are_not_read() {
    for (dtype, rows) in TYPES.into_iter().flat_map(|dtype| [(dtype, 9), (dtype, 0)]) {
        let mut case = Case { rows, ..Case::new(dtype, 1, 64, &[40, 40, 90], 70) };
        case.lengths[1] = -1;
        for (at, row) in [(0, -1), (3, 9), (5, i32::MAX), (69, i32::MIN)] {
            case.table[at] = row;
        }
        case.check(1);
    }
}

/// The kernels read keys and values once, and only whole sectors of them.
#[test]
fn memory_is_read_once() {
    for dtype in TYPES {
        let case = Case::new(dtype, 4, 64, &[256; 3], 256);
        let (_, counters) = case.run(1);
        let floor = 2 * 3 * 256 * 4 * 64 * dtype.size() as u64;
        let read = 32 * counters.global_sectors;
        assert!(read >= floor && read < floor + floor / 8, "{dtype}: {read} of {floor} bytes");
    }
}
