//! Our own kernels for products against f64: extents around those of tiles, operands of all
//! layouts, aligned or not, and what follows a product. An element has the same bits whatever other
//! rows and columns there are.

mod arrays;

use arrays::{TYPES, decode, encode, name, noise};
use std::sync::LazyLock;
use tfm_core::DType;
use tfm_ptx_emu::{Counters, Device, Launch, Module};

static MODULE: LazyLock<Module> = LazyLock::new(|| {
    Module::parse(include_str!("../kernels/matmul.ptx")).unwrap_or_else(|error| panic!("{error}"))
});
/// A matrix in memory, with the distances of its rows and columns; `batch` is the distance of the
/// matrices of its batch.
#[derive(Clone, Copy)]
struct StridedMatrix {
    row: usize,
    column: usize,
    batch: usize,
}

impl StridedMatrix {
    /// Contiguous rows (or columns) with `gap` elements between them.
    fn new(rows: usize, columns: usize, turned: bool, gap: usize) -> StridedMatrix {
        let (row, column) = if turned { (1, rows + gap) } else { (columns + gap, 1) };
        StridedMatrix { row, column, batch: rows * row + columns * column }
    }
}

#[derive(Clone)]
struct Case {
    dtype: DType,
    batches: usize,
    m: usize,
    k: usize,
    n: usize,
    a: StridedMatrix,
    b: StridedMatrix,
    bias: bool,
    activation: i32,
    residual: bool,
}

impl Case {
    /// A plain product. `turned` says of a and of b whether it is column-major.
    fn new(dtype: DType, [m, k, n]: [usize; 3], turned: [bool; 2], gap: usize) -> Case {
        let (a, b) =
            (StridedMatrix::new(m, k, turned[0], gap), StridedMatrix::new(k, n, turned[1], gap));
        Case { dtype, batches: 1, m, k, n, a, b, bias: false, activation: 0, residual: false }
    }

    /// The values of a, b, bias and residual.
    fn inputs(&self) -> [Vec<f64>; 4] {
        let sizes =
            [self.batches * self.a.batch, self.batches * self.b.batch, self.n, self.m * self.n];
        [0, 1, 2, 3]
            .map(|i| decode(self.dtype, &encode(self.dtype, &noise(i as i32, sizes[i] + 8))))
    }

    fn expected(&self) -> Vec<f64> {
        let [a, b, bias, residual] = self.inputs();
        let all = (0..self.batches)
            .flat_map(|batch| (0..self.m).map(move |i| (batch, i)))
            .flat_map(|(batch, i)| (0..self.n).map(move |j| (batch, i, j)));
        all.map(|(batch, i, j)| {
            let at =
                |x: &[f64], s: StridedMatrix, i, j| x[batch * s.batch + i * s.row + j * s.column];
            let mut x: f64 = (0..self.k).map(|p| at(&a, self.a, i, p) * at(&b, self.b, p, j)).sum();
            if self.bias {
                x += bias[j];
            }
            x = match self.activation {
                0 => x,
                1 => x.max(0.0),
                3 => 0.5 * x * (1.0 + (0.7978845608028654 * (x + 0.044715 * x.powi(3))).tanh()),
                4 => x / (1.0 + (-x).exp()),
                _ => x.tanh(),
            };
            if self.residual { x + residual[i * self.n + j] } else { x }
        })
        .collect()
    }

    /// The kernel's answer as bytes, and its counters.
    fn run(&self, seed: u64, lazy: bool) -> (Vec<u8>, Counters) {
        self.try_run(&MODULE, seed, lazy).unwrap_or_else(|fault| panic!("{fault}"))
    }

    fn try_run(
        &self,
        module: &Module,
        seed: u64,
        lazy: bool,
    ) -> Result<(Vec<u8>, Counters), String> {
        let size = self.dtype.size();
        let mut device = Device::new();
        let [a, b, bias, residual] = self.inputs().map(|x| device.upload(&encode(self.dtype, &x)));
        let elements = self.batches * self.m * self.n;
        // The memory stays unwritten, so that a read finds what the kernel leaves out.
        let out = device.allocate(elements * size);
        let turned = |s: StridedMatrix| s.row == 1 && s.column != 1;
        let aligned = |s: StridedMatrix| {
            let (fast, slow) = if turned(s) { (s.row, s.column) } else { (s.column, s.row) };
            fast == 1 && slow.is_multiple_of(8) && (s.batch.is_multiple_of(8) || self.batches == 1)
        };
        let letter = |s| if turned(s) { 't' } else { 'n' };
        let (a_letter, b_letter) = (letter(self.a), letter(self.b));
        let (kernel, threads, shared) = match self.dtype {
            DType::F32 => ("matmul_f32".into(), 256, 17_408),
            _ => (format!("matmul_{}_{a_letter}{b_letter}", name(self.dtype)), 128, 30_720),
        };
        let long = |x: u64| x.to_le_bytes().to_vec();
        let int = |x: usize| (x as u32).to_le_bytes().to_vec();
        let matrix = |at, s: StridedMatrix| {
            let steps = [if self.batches == 1 { 0 } else { s.batch }, s.row, s.column];
            [vec![long(at), long(0)], steps.map(|x| long(x as u64)).to_vec()].concat()
        };
        let alignments = usize::from(aligned(self.a)) + 2 * usize::from(aligned(self.b));
        let optional = |at, there| long(if there { at } else { 0 });
        let arguments = [
            matrix(a, self.a),
            matrix(b, self.b),
            vec![
                int(self.batches),
                int(alignments),
                long(out),
                int(self.m),
                int(self.k),
                int(self.n),
            ],
            vec![optional(bias, self.bias), int(self.activation as usize)],
            vec![optional(residual, self.residual), long(self.n as u64)],
        ]
        .concat();
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let tiles = self.m.div_ceil(64) * self.n.div_ceil(64) * self.batches;
        let launch = Launch {
            blocks: [tiles as u32, 1, 1],
            threads: [threads, 1, 1],
            shared,
            seed,
            lazy,
            ..Launch::default()
        };
        let counters = device
            .launch(module, &kernel, &launch, &arguments)
            .map_err(|fault| fault.to_string())?;
        let bytes = device.download(out, elements * size).map_err(|problem| problem.to_string())?;
        Ok((bytes, counters))
    }

    fn check(&self, seed: u64) -> Vec<u8> {
        let (bytes, _) = self.run(seed, seed.is_multiple_of(2));
        let about = format!("{} {}×{}×{}", self.dtype, self.m, self.k, self.n);
        let found = decode(self.dtype, &bytes);
        if let Err(problem) = arrays::check(self.dtype, &found, &self.expected()) {
            panic!("{about}: {problem}");
        }
        bytes
    }
}

const LAYOUTS: [[bool; 2]; 4] = [[false, false], [false, true], [true, false], [true, true]];

#[test]
fn extents_around_the_tiles() {
    for dtype in TYPES {
        let mut seed = 0;
        for k in [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 95, 97, 130] {
            for turned in LAYOUTS {
                let (m, n) = [(1, 65), (64, 8), (63, 1), (65, 64)][(seed / 4 + k) % 4];
                Case::new(dtype, [m, k, n], turned, 0).check(seed as u64);
                seed += 1;
            }
        }
    }
}

/// Rows that begin at multiples of 16 bytes and end anywhere.
#[test]
fn aligned_rows_of_any_length() {
    for dtype in [DType::F16, DType::BF16] {
        for (i, turned) in LAYOUTS.into_iter().enumerate() {
            for [m, k, n] in [[5, 3, 9], [66, 33, 70], [8, 96, 8], [64, 64, 64]] {
                let mut case = Case::new(dtype, [m, k, n], turned, 0);
                for (stored, turned) in [(&mut case.a, turned[0]), (&mut case.b, turned[1])] {
                    let slow = if turned { &mut stored.column } else { &mut stored.row };
                    *slow = slow.next_multiple_of(8);
                    stored.batch = 104 * *slow;
                }
                case.check(i as u64);
            }
        }
    }
}

#[test]
fn batches_and_strides() {
    for dtype in TYPES {
        for turned in LAYOUTS {
            let case = Case { batches: 3, ..Case::new(dtype, [5, 20, 11], turned, 3) };
            case.check(1);
        }
        // Every other element; then a row or a column that repeats.
        let mut case = Case::new(dtype, [9, 20, 70], [false, true], 0);
        case.a = StridedMatrix { row: 41, column: 2, batch: 400 };
        case.check(2);
        case.b = StridedMatrix { row: 3, column: 0, batch: 100 };
        case.check(3);
        case.a = StridedMatrix { row: 0, column: 1, batch: 100 };
        case.check(4);
    }
}

#[test]
fn what_follows() {
    for dtype in TYPES {
        for activation in [0, 1, 3, 4, 5] {
            for (bias, residual) in [(false, true), (true, false), (true, true)] {
                let case = Case::new(dtype, [7, 24, 10], [false, true], 0);
                Case { bias, activation, residual, ..case }.check(1);
            }
        }
    }
}

#[test]
fn an_element_has_the_same_bits_in_any_company() {
    for dtype in TYPES {
        let all = Case::new(dtype, [70, 100, 66], [false, true], 0);
        let (among, _) = all.run(1, false);
        let (alone, _) = Case { m: 1, n: 1, ..all }.run(2, true);
        assert_eq!(alone, among[..alone.len()], "{dtype}");
    }
}

/// The tiles that `ldmatrix` and the f32 kernel read lie in different banks.
#[test]
fn banks() {
    for dtype in TYPES {
        for turned in LAYOUTS {
            let (_, counters) = Case::new(dtype, [64, 128, 64], turned, 0).run(1, false);
            // In f32, storing a tile that is transposed on its way has conflicts.
            let most = if dtype == DType::F32 { counters.shared_passes / 5 } else { 0 };
            assert!(counters.bank_conflicts <= most, "{dtype} {turned:?}: {counters:?}");
        }
    }
}

/// The tests catch every barrier and every wait that is left out.
#[test]
fn synchronisation_that_is_left_out_is_caught() {
    let ptx = include_str!("../kernels/matmul.ptx");
    let mut tried = 0;
    for (dtype, kernel) in [(DType::F32, "matmul_f32"), (DType::F16, "matmul_f16_nt")] {
        let case = Case::new(dtype, [64, 200, 64], [false, true], 0);
        let start = ptx.find(&format!("entry {kernel}(")).expect("the kernel is there");
        let end = start + ptx[start..].find("\n}").expect("it ends");
        for (what, instead) in
            [("bar.sync", "// bar.sync"), ("cp.async.wait_group 1", "cp.async.wait_group 2")]
        {
            for (at, _) in ptx[start..end].match_indices(what) {
                let (at, after) = (start + at, start + at + what.len());
                let mutant = format!("{}{instead}{}", &ptx[..at], &ptx[after..]);
                let mutant = Module::parse(&mutant).unwrap_or_else(|error| panic!("{error}"));
                let caught = (0u64..4)
                    .any(|seed| case.try_run(&mutant, seed, seed.is_multiple_of(2)).is_err());
                assert!(caught, "`{what}` at {at} of {kernel} can be left out");
                tried += 1;
            }
        }
    }
    assert!(tried >= 5, "{tried} mutants");
}
