//! A flash-attention kernel (`fixtures/attention.cu`) against f64: every key length up to two tiles, query lengths around
//! the tile, ragged batches, causal or not; and mutants of it, which must be caught.

mod common;

use common::{bytes, everywhere, noise};
use half::{bf16, f16};
use std::sync::LazyLock;
use tfm_ptx_emu::{Device, Fault, Launch, Module};

const PTX: &str = include_str!("fixtures/attention.ptx");
static MODULE: LazyLock<Module> =
    LazyLock::new(|| Module::parse(PTX).unwrap_or_else(|error| panic!("{error}")));

/// Sequences of so many queries and keys, and the kernel that computes them.
struct Case {
    bf16: bool,
    heads: usize,
    causal: bool,
    /// Queries and keys of each sequence.
    sequences: Vec<(usize, usize)>,
}

impl Case {
    fn size(&self) -> usize {
        if self.bf16 { 48 } else { 64 }
    }

    fn rows(&self) -> [usize; 2] {
        let sum = |f: fn(&(usize, usize)) -> usize| self.sequences.iter().map(f).sum();
        [sum(|s| s.0), sum(|s| s.1)]
    }

    /// Query, key and value as the kernel sees them.
    fn inputs(&self) -> [Vec<f32>; 3] {
        let [queries, keys] = self.rows();
        let width = self.heads * self.size();
        let round =
            |x: f32| if self.bf16 { bf16::from_f32(x).to_f32() } else { f16::from_f32(x).to_f32() };
        [(1, queries), (2, keys), (3, keys)].map(|(seed, rows)| {
            noise(seed, rows * width).into_iter().map(|x| round(3.0 * x)).collect()
        })
    }

    /// Context and log Σ exp by the definition, in f64.
    fn expected(&self, [query, key, value]: &[Vec<f32>; 3]) -> [Vec<f64>; 2] {
        let (heads, size) = (self.heads, self.size());
        let scale = (size as f64).powf(-0.5);
        let row = |x: &[f32], row: usize, head: usize| -> Vec<f64> {
            x[(row * heads + head) * size..][..size].iter().map(|x| f64::from(*x)).collect()
        };
        let (mut context, mut sums) = (Vec::new(), Vec::new());
        let (mut first, mut start) = (0, 0);
        for &(queries, keys) in &self.sequences {
            for (i, head) in (0..queries).flat_map(|i| (0..heads).map(move |h| (i, h))) {
                let hidden = if self.causal { queries - 1 - i } else { 0 };
                let visible = keys.saturating_sub(hidden);
                let q = row(query, first + i, head);
                let score = |j: usize| -> f64 {
                    q.iter().zip(row(key, start + j, head)).map(|(a, b)| a * b).sum::<f64>() * scale
                };
                let scores: Vec<f64> = (0..visible).map(score).collect();
                let sum: f64 = scores.iter().map(|s| s.exp()).sum();
                sums.push(if visible == 0 { 0.0 } else { sum.ln() });
                let mut out = vec![0.0; size];
                for (j, score) in scores.iter().enumerate() {
                    for (out, v) in out.iter_mut().zip(row(value, start + j, head)) {
                        *out += score.exp() / sum * v;
                    }
                }
                context.extend(out);
            }
            (first, start) = (first + queries, start + keys);
        }
        [context, sums]
    }

    /// Context and log Σ exp by the kernel.
    fn run(
        &self,
        module: &Module,
        inputs: &[Vec<f32>; 3],
        how: Launch,
    ) -> Result<[Vec<f64>; 2], Fault> {
        let size = self.size();
        let encode = |x: f32| {
            if self.bf16 { bf16::from_f32(x).to_bits() } else { f16::from_f32(x).to_bits() }
        };
        let decode = |b: u16| {
            if self.bf16 { bf16::from_bits(b).to_f64() } else { f16::from_bits(b).to_f64() }
        };
        let mut device = Device::new();
        let inputs =
            [0, 1, 2].map(|i| device.upload(&bytes(&inputs[i], |x| encode(x).to_le_bytes())));
        let (mut offsets, mut ranges) = (vec![0], Vec::new());
        let mut start = 0;
        for (queries, keys) in &self.sequences {
            offsets.push(offsets[offsets.len() - 1] + *queries as i32);
            ranges.extend([start, *keys as i32]);
            start += *keys as i32;
        }
        let offsets = device.upload(&bytes(&offsets, i32::to_le_bytes));
        let ranges = device.upload(&bytes(&ranges, i32::to_le_bytes));
        let [queries, _] = self.rows();
        // Not written: what the kernel leaves out is found when it is read.
        let lengths = [queries * self.heads * size * 2, queries * self.heads * 4];
        let outputs = lengths.map(|bytes| device.allocate(bytes));
        let stride = ((self.heads * size) as i64).to_le_bytes();
        let pointers = [inputs[0], inputs[1], inputs[2], offsets, ranges, outputs[0], outputs[1]]
            .map(u64::to_le_bytes);
        let causal = i32::from(self.causal).to_le_bytes();
        let scale = (size as f32).powf(-0.5).to_le_bytes();
        let arguments: [&[u8]; 12] = [
            &pointers[0],
            &pointers[1],
            &pointers[2],
            &stride,
            &stride,
            &stride,
            &pointers[3],
            &pointers[4],
            &causal,
            &scale,
            &pointers[5],
            &pointers[6],
        ];
        let most = self.sequences.iter().map(|s| s.0).max().unwrap_or(0).max(1);
        let launch = Launch {
            blocks: [most.div_ceil(64) as u32, self.heads as u32, self.sequences.len() as u32],
            threads: [128, 1, 1],
            shared: 4 * 64 * (size + 8) * 2,
            steps: 3_000_000,
            ..how
        };
        let name = if self.bf16 { "attention_bf16_48" } else { "attention_f16_64" };
        device.launch(module, name, &launch, &arguments)?;
        let outside = |problem| Fault {
            problem,
            kernel: name.into(),
            line: 0,
            block: [0; 3],
            thread: [0; 3],
        };
        let context = device.download(outputs[0], lengths[0]).map_err(outside)?;
        let sums = device.download(outputs[1], lengths[1]).map_err(outside)?;
        Ok([
            context.chunks(2).map(|b| decode(u16::from_le_bytes(b.try_into().unwrap()))).collect(),
            sums.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        ])
    }

    /// Whether the kernel is right: what is wrong with it, otherwise.
    fn check(&self, module: &Module, how: Launch) -> Result<(), String> {
        let inputs = self.inputs();
        let expected = self.expected(&inputs);
        let found = self.run(module, &inputs, how).map_err(|fault| fault.to_string())?;
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (found, expected) in found.iter().zip(&expected) {
            let differences: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
            let (error, bound) =
                (norm(&differences), if self.bf16 { 5e-3 } else { 1e-3 } * norm(expected));
            if error.is_nan() || error > bound {
                return Err(format!("an error of {error:e}, allowed are {bound:e}"));
            }
        }
        Ok(())
    }
}

fn assert_right(case: &Case, how: Launch) {
    if let Err(problem) = case.check(&MODULE, how) {
        panic!("{:?}, causal {}: {problem}", case.sequences, case.causal);
    }
}

#[test]
fn every_key_length_up_to_two_tiles() {
    for keys in 1..=128 {
        let sequences = vec![(1 + keys % 3, keys)];
        assert_right(
            &Case { bf16: keys % 2 == 0, heads: 1, causal: keys % 4 < 2, sequences },
            Launch::default(),
        );
    }
}

#[test]
fn query_lengths_around_the_tile() {
    for queries in [1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129] {
        for causal in [false, true] {
            let sequences = vec![(queries, 70)];
            assert_right(&Case { bf16: causal, heads: 1, causal, sequences }, Launch::default());
        }
    }
}

/// Sequences without queries or keys, with more queries than keys, and two heads.
#[test]
fn ragged_batches_under_every_schedule() {
    everywhere(|how| {
        for (bf16, causal) in [(false, true), (true, false)] {
            let sequences = vec![(3, 5), (0, 4), (66, 67), (5, 0), (20, 7), (1, 130)];
            assert_right(&Case { bf16, heads: 2, causal, sequences }, how);
        }
    });
}

/// Every barrier and every wait that is left out is caught; so is a count that is off by one.
#[test]
fn synchronisation_that_is_left_out_is_caught() {
    let start = PTX.find("entry attention_f16_64").expect("the kernel is there");
    let end = PTX[start..].find("\n}").expect("it ends") + start;
    let case = Case { bf16: false, heads: 1, causal: true, sequences: vec![(64, 193)] };
    let mut tried = 0;
    for (what, instead) in [
        ("bar.sync", "// bar.sync"),
        ("cp.async.wait_group 0", "cp.async.wait_group 1"),
        ("cp.async.wait_group 1", "cp.async.wait_group 2"),
        ("cp.async.commit_group", "// cp.async.commit_group"),
    ] {
        for (at, _) in PTX[start..end].match_indices(what) {
            let (at, after) = (start + at, start + at + what.len());
            let mutant = format!("{}{instead}{}", &PTX[..at], &PTX[after..]);
            let mutant = Module::parse(&mutant).unwrap_or_else(|error| panic!("{error}"));
            let caught = (0..3).any(|seed| {
                let how = Launch { seed, lazy: seed % 2 == 0, ..Launch::default() };
                case.check(&mutant, how).is_err()
            });
            assert!(caught, "`{what}` at {at} can be left out");
            tried += 1;
        }
    }
    assert!(tried >= 8, "{tried} mutants");
}
