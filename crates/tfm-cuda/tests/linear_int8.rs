//! The kernels of the linear layer on 8-bit integers, in the interpreter. Sums are exactly those of
//! the integers, for all tails of rows, columns and inputs, from the kernel for few rows and the
//! one for many, in any company.

use std::ops::Range;
use std::sync::LazyLock;
use tfm_core::testing::Data;
use tfm_ptx_emu::{Counters, Device, Launch, Module};

const PTX: &str = include_str!("../kernels/linear_int8.ptx");
static LINEAR: LazyLock<Module> = LazyLock::new(|| parse(PTX));
static QUANTIZE: LazyLock<Module> =
    LazyLock::new(|| parse(include_str!("../kernels/quantize.ptx")));

fn parse(ptx: &str) -> Module {
    Module::parse(ptx).unwrap_or_else(|error| panic!("{error}"))
}

/// Elements between the rows of x, and of the residual.
const GAP: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Kernel {
    Few,
    Many,
}
use Kernel::{Few, Many};

impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Few => "linear_int8_few",
            Many => "linear_int8_many",
        }
    }

    fn launch(self, m: usize, n: usize) -> Launch {
        let (blocks, threads, shared) = match self {
            Few => (m.div_ceil(16) * n.div_ceil(16), 256, 0),
            Many => (m.div_ceil(128) * n.div_ceil(64), 128, 46_080),
        };
        let (blocks, threads) = ([blocks as u32, 1, 1], [threads, 1, 1]);
        Launch { blocks, threads, shared, ..Launch::default() }
    }
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut data = Data::new(seed);
    (0..n).map(|_| data.number(1.0) as f32).collect()
}

/// Quantises a row by the definition: its integers and its scale.
fn quantized(x: &[f32]) -> (Vec<i32>, f32) {
    let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    (integers(x, factor), largest / 127.0)
}

/// Quantises a row of a weight, whose neighbours of one sign have a bounded sum.
fn quantized_weight(w: &[f32]) -> (Vec<i32>, f32) {
    let largest = w.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let sum = |sign: f32, pair: &[f32]| pair.iter().map(|x| (sign * x).max(0.0)).sum::<f32>();
    let sums = w.chunks(2).flat_map(|pair| [sum(1.0, pair), sum(-1.0, pair)]);
    let scale = (largest / 127.0).max(sums.fold(0.0, f32::max) / 128.0);
    (integers(w, if scale > 0.0 { 1.0 / scale } else { 0.0 }), scale)
}

fn integers(x: &[f32], factor: f32) -> Vec<i32> {
    x.iter().map(|x| (x * factor).round_ties_even() as i32).collect()
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(x: &[u8]) -> Vec<f32> {
    x.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn long(x: u64) -> Vec<u8> {
    x.to_le_bytes().to_vec()
}

fn int(x: usize) -> Vec<u8> {
    (x as u32).to_le_bytes().to_vec()
}

/// Bytes of the scales, and of one row.
fn sizes(rows: usize, columns: usize) -> [usize; 2] {
    [4 * rows.next_multiple_of(32), columns.next_multiple_of(16)]
}

/// Memory that a kernel of `quantize.cu` has filled from rows `strides` apart.
fn quantize(
    device: &mut Device,
    kernel: &str,
    source: &[f32],
    strides: &[usize],
    [rows, columns]: [usize; 2],
) -> u64 {
    let from = device.upload(&bytes(source));
    let [scales, row] = sizes(rows, columns);
    let to = device.allocate(scales + rows * row);
    let mut arguments = vec![long(from)];
    arguments.extend(strides.iter().map(|stride| long(*stride as u64)));
    arguments.extend([long(to), int(rows), int(columns)]);
    let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    let threads = columns.div_ceil(16).next_multiple_of(32).clamp(32, 512) as u32;
    let (blocks, threads) = ([rows as u32, 1, 1], [threads, 1, 1]);
    let launch = Launch { blocks, threads, seed: columns as u64, ..Launch::default() };
    device.launch(&QUANTIZE, kernel, &launch, &arguments).unwrap_or_else(|fault| panic!("{fault}"));
    to
}

#[derive(Clone)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
    /// The activation's place in `Activation`, counted from 1.
    activation: usize,
}

impl Case {
    fn new([m, n, k]: [usize; 3]) -> Case {
        let (mut x, mut weight) = (noise(1, m * (k + GAP)), noise(2, n * k));
        // Rows of extremes of one sign, which have the largest products; and rows of zeros.
        if m > 2 {
            x[k + GAP..][..k].fill(0.9);
            x[2 * (k + GAP)..][..k].fill(0.0);
        }
        if n > 3 {
            weight[..k].fill(-0.7);
            weight[k..2 * k].fill(0.7);
            weight[3 * k..4 * k].fill(0.0);
        }
        let (bias, residual) = (noise(3, n), noise(4, m * (n + GAP)));
        Case { m, n, k, x, weight, bias, residual, activation: 1 }
    }

    fn run(&self, kernel: Kernel, rows: Range<usize>, seed: u64) -> (Vec<f32>, Counters) {
        self.try_run(&LINEAR, kernel, rows, seed).unwrap_or_else(|fault| panic!("{fault}"))
    }

    fn try_run(
        &self,
        module: &Module,
        kernel: Kernel,
        rows: Range<usize>,
        seed: u64,
    ) -> Result<(Vec<f32>, Counters), String> {
        let Case { n, k, .. } = *self;
        let m = rows.len();
        let mut device = Device::new();
        let x = &self.x[rows.start * (k + GAP)..rows.end * (k + GAP)];
        let x = quantize(&mut device, "quantize_rows", x, &[k + GAP], [m, k]);
        let weight = quantize(&mut device, "quantize_weight", &self.weight, &[k, 1], [n, k]);
        // The memory stays unwritten, so that a read finds what the kernel leaves out.
        let out = device.allocate(4 * m * n);
        let bias = device.upload(&bytes(&self.bias));
        let residual = device.upload(&bytes(&self.residual[rows.start * (n + GAP)..]));
        let arguments = [
            vec![long(x), long(weight), long(out), int(m), int(k), int(n)],
            vec![long(bias), int(self.activation), long(residual), long((n + GAP) as u64)],
        ]
        .concat();
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let launch = Launch { seed, lazy: seed.is_multiple_of(2), ..kernel.launch(m, n) };
        let counters = device.launch(module, kernel.name(), &launch, &arguments);
        let counters = counters.map_err(|fault| fault.to_string())?;
        let out = device.download(out, 4 * m * n).map_err(|problem| problem.to_string())?;
        Ok((floats(&out), counters))
    }

    /// The scaled sums and what follows them; `activate` is the activation.
    fn expected(&self, activate: impl Fn(f32) -> f32) -> Vec<f32> {
        let Case { m, n, k, .. } = *self;
        let weights: Vec<_> =
            (0..n).map(|j| quantized_weight(&self.weight[j * k..][..k])).collect();
        let mut expected = Vec::new();
        for i in 0..m {
            let (x, scale) = quantized(&self.x[i * (k + GAP)..][..k]);
            for (j, (w, own)) in weights.iter().enumerate() {
                let sum: i32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                let y = activate(sum as f32 * (scale * own) + self.bias[j]);
                expected.push(y + self.residual[i * (n + GAP) + j]);
            }
        }
        expected
    }
}

#[track_caller]
fn assert_same_bits(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "element {i}: {found} {expected}");
    }
}

const SHAPES: [[usize; 3]; 13] = [
    [1, 1, 1],
    [1, 70, 33],
    [2, 31, 5],
    [3, 129, 64],
    [5, 16, 17],
    [13, 97, 40],
    [16, 16, 512],
    [17, 33, 2300],
    [4, 33, 0],
    [65, 15, 63],
    [128, 64, 192],
    [129, 65, 130],
    [200, 20, 96],
];

#[test]
fn sums_are_exact_for_all_tails() {
    for shape in SHAPES {
        let case = Case::new(shape);
        let expected = case.expected(|x| x.max(0.0));
        for kernel in [Few, Many] {
            for seed in 0..6 {
                assert_same_bits(&case.run(kernel, 0..case.m, seed).0, &expected);
            }
        }
    }
}

/// Every number of inputs around the step lengths of both kernels.
#[test]
fn inputs_of_any_number() {
    for k in (1..=34).chain(60..=68).chain(126..=130).chain([511, 513]) {
        let case = Case::new([3, 9, k]);
        let expected = case.expected(|x| x.max(0.0));
        for kernel in [Few, Many] {
            assert_same_bits(&case.run(kernel, 0..case.m, k as u64).0, &expected);
        }
    }
}

/// A row has the same bits alone and among others, from both kernels, whatever follows the sums.
#[test]
fn a_row_has_the_same_bits_in_any_company() {
    let gelu_tanh =
        |x: f64| 0.5 * x * (1.0 + (0.7978845608028654 * (x + 0.044715 * x.powi(3))).tanh());
    for activation in 0..=5 {
        let case = Case { activation, ..Case::new([70, 20, 100]) };
        let among = case.run(Many, 0..70, 1).0;
        assert_same_bits(&case.run(Few, 0..70, 2).0, &among);
        for row in [0, 1, 33, 69] {
            for kernel in [Few, Many] {
                let alone = case.run(kernel, row..row + 1, 3).0;
                assert_same_bits(&alone, &among[row * 20..][..20]);
            }
        }
        let expected = case.expected(|x| match activation {
            0 => x,
            1 => x.max(0.0),
            // The approximation is within 5·10⁻⁴ of the GELU by the error function.
            2 | 3 => gelu_tanh(x.into()) as f32,
            4 => (f64::from(x) / (1.0 + f64::from(-x).exp())) as f32,
            _ => f64::from(x).tanh() as f32,
        });
        let most = if activation == 2 { 1e-3 } else { 1e-5 };
        for (found, expected) in among.iter().zip(&expected) {
            assert!((found - expected).abs() < most, "{activation}: {found} {expected}");
        }
    }
}

#[test]
fn what_is_not_finite_shows() {
    for kernel in [Few, Many] {
        for (place, bad) in [(0, f32::NAN), (19, -f32::NAN), (5, f32::INFINITY)] {
            for activation in [0, 1] {
                let mut case = Case { activation, ..Case::new([2, 5, 20]) };
                let finite = case.run(kernel, 1..2, 1).0;
                case.x[place] = bad;
                let found = case.run(kernel, 0..2, 2).0;
                assert!(found[..5].iter().all(|x| x.is_nan()), "{bad}: {found:?}");
                assert_same_bits(&found[5..], &finite);
            }
        }
    }
}

/// A weight by rows or by columns, of any length, becomes the integers of the definition with zeros
/// behind them.
#[test]
fn a_weight_in_any_order() {
    for [n, k] in [[1, 1], [5, 22], [7, 16], [3, 33], [2, 700], [2, 0]] {
        let case = Case::new([1, n, k]);
        let transposed: Vec<f32> = (0..n * k).map(|i| case.weight[i % n * k + i / n]).collect();
        for (source, strides) in [(&case.weight, [k, 1]), (&transposed, [1, n])] {
            let mut device = Device::new();
            let at = quantize(&mut device, "quantize_weight", source, &strides, [n, k]);
            let [scales, row] = sizes(n, k);
            let found_scales = floats(&device.download(at, 4 * n).unwrap());
            let rows = device.download(at + scales as u64, n * row).unwrap();
            for j in 0..n {
                let (integers, scale) = quantized_weight(&case.weight[j * k..][..k]);
                let zeros = std::iter::repeat_n(0, row - k);
                let wanted: Vec<u8> =
                    integers.iter().map(|q| *q as i8 as u8).chain(zeros).collect();
                assert_eq!(rows[j * row..][..row], wanted, "{n}×{k}, row {j}");
                assert_same_bits(&found_scales[j..=j], &[scale]);
            }
        }
    }
}

/// The rows that `ldmatrix` reads, and the sums that are stored, lie in different banks.
#[test]
fn banks() {
    for (kernel, shape) in [(Few, [16, 32, 128]), (Many, [128, 64, 192])] {
        let (_, counters) = Case::new(shape).run(kernel, 0..shape[0], 1);
        assert!(counters.shared_passes > 0 && counters.bank_conflicts == 0, "{counters:?}");
    }
}

/// With few rows the kernel reads the weight once. It reads the rows once for every 16 columns, or
/// twice where there is only one row.
#[test]
fn the_weight_is_read_once() {
    let (n, k) = (160, 1024);
    for m in [1, 16] {
        let (_, counters) = Case::new([m, n, k]).run(Few, 0..m, 1);
        let (floor, of_x) = (n * k, n / 16 * m.max(2) * k);
        let read = 32 * counters.global_sectors as usize;
        // Each result adds four numbers: scales, bias, residual, and itself.
        let most = floor + of_x + 16 * m * n + floor / 16;
        assert!(read >= floor + of_x && read < most, "{m} rows: {read} of {floor} + {of_x} bytes");
    }
}

/// The tests catch every barrier and every wait that is left out.
#[test]
fn synchronisation_that_is_left_out_is_caught() {
    let mut tried = 0;
    for (kernel, shape) in [(Few, [16, 16, 600]), (Many, [128, 64, 400])] {
        let case = Case::new(shape);
        let start = PTX.find(&format!("entry {}(", kernel.name())).expect("the kernel is there");
        let end = start + PTX[start..].find("\n}").expect("it ends");
        for (what, instead) in
            [("bar.sync", "// bar.sync"), ("cp.async.wait_group 1", "cp.async.wait_group 2")]
        {
            for (at, _) in PTX[start..end].match_indices(what) {
                let (at, after) = (start + at, start + at + what.len());
                let mutant = parse(&format!("{}{instead}{}", &PTX[..at], &PTX[after..]));
                let caught =
                    (0..4).any(|seed| case.try_run(&mutant, kernel, 0..case.m, seed).is_err());
                assert!(caught, "`{what}` at {at} of {} can be left out", kernel.name());
                tried += 1;
            }
        }
    }
    assert!(tried >= 5, "{tried} mutants");
}
