//! Runs the kernels in the interpreter, in the way that the host code runs them.

use crate::case::{Case, Data, KEY, Results, STREAM, bytes_of, numbers_of};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tfm_core::DType;
use tfm_ptx_emu::{Counters, Device, Launch, Module};

const FILES: [&str; 8] = [
    include_str!("../../kernels/attention_forward.ptx"),
    include_str!("../../kernels/attention_gradient.ptx"),
    include_str!("../../kernels/attention_plain.ptx"),
    include_str!("../../kernels/attention_biased.ptx"),
    include_str!("../../kernels/attention_plain_biased.ptx"),
    include_str!("../../kernels/attention_general.ptx"),
    include_str!("../../kernels/attention_plain_general.ptx"),
    include_str!("../../kernels/row_table_attention_general.ptx"),
];

/// The text of one kernel with the header of the file, as a module, and the number of the file's
/// lines that are left out before the kernel. `None` where there is no such kernel.
pub(crate) fn text(name: &str) -> Option<(String, usize)> {
    let entry = format!(".visible .entry {name}(");
    let file = FILES.into_iter().find(|file| file.contains(&entry))?;
    let (start, first) = (file.find(&entry)?, file.find(".visible .entry")?);
    let end = start + file[start..].find("\n}\n")? + 3;
    let left_out = file[first..start].lines().count();
    Some((format!("{}{}", &file[..first], &file[start..end]), left_out))
}

static MODULES: LazyLock<Mutex<HashMap<String, Arc<Module>>>> = LazyLock::new(Mutex::default);

pub(crate) fn module(name: &str) -> Arc<Module> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    let parse = || Arc::new(Module::parse(&text(name).unwrap().0).unwrap());
    modules.entry(name.into()).or_insert_with(parse).clone()
}

/// The kernels, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    Forward,
    Rows,
    QueryGradient,
    KeyGradient,
}

impl Kernel {
    pub(crate) const ALL: [Kernel; 4] =
        [Kernel::Forward, Kernel::Rows, Kernel::QueryGradient, Kernel::KeyGradient];

    pub(crate) fn name(self, case: &Case) -> String {
        let dtype = match case.dtype {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            _ => "f32",
        };
        let what = match self {
            Kernel::Forward => "",
            Kernel::Rows => return format!("attention_rows_{dtype}"),
            Kernel::QueryGradient => "_query_gradient",
            Kernel::KeyGradient => "_key_gradient",
        };
        let biased = if case.bias.is_some() { "_biased" } else { "" };
        match case.padded {
            Some(padded) => format!("attention{biased}{what}_{dtype}_{padded}"),
            None => format!("attention_plain{biased}{what}_{dtype}"),
        }
    }

    /// The results that this kernel computes.
    pub(crate) fn results(self) -> std::ops::Range<usize> {
        match self {
            Kernel::Forward => 0..2,
            Kernel::Rows => 0..0,
            Kernel::QueryGradient => 2..3,
            Kernel::KeyGradient => 3..5,
        }
    }
}

/// A problem on a device of its own.
#[derive(Clone)]
pub(crate) struct Run {
    case: Case,
    device: Device,
    pub(crate) counters: Counters,
    /// The arguments that all kernels but one take first.
    common: Vec<Vec<u8>>,
    outputs: Vec<u64>,
    d_context: u64,
    sums: u64,
    /// The arguments for biases, empty where there are none; and, by block, head and distance, the
    /// sums of the biases' gradients.
    biases: Vec<Vec<u8>>,
    bias_sums: u64,
}

impl Run {
    /// Puts the operands on the device. No output is written yet.
    pub(crate) fn new(case: &Case, data: &Data) -> Run {
        let (case, common) = (case.clone(), Vec::new());
        let (device, counters) = (Device::new(), Counters::default());
        let mut run = Run {
            case,
            device,
            counters,
            common,
            outputs: Vec::new(),
            d_context: 0,
            sums: 0,
            biases: Vec::new(),
            bias_sums: 0,
        };
        run.upload(data);
        run
    }

    fn upload(&mut self, data: &Data) {
        let case = self.case.clone();
        let spread = [
            self.spread(&data.query, |_| true),
            self.spread(&data.key, |row| case.is_used(row)),
            self.spread(&data.value, |row| case.is_used(row)),
        ];
        for (pointer, row, head) in spread {
            let parts = [pointer, row as u64, head as u64].map(|x| x.to_le_bytes().to_vec());
            self.common.extend(parts);
        }
        let told = case.wild.clone().unwrap_or_else(|| [case.offsets(), case.ranges()]);
        for numbers in told {
            let pointer = self.integers(&numbers);
            self.common.push(pointer.to_le_bytes().to_vec());
        }
        let (queries, rows, heads) = (case.queries(), case.rows, case.heads);
        let causal = usize::from(case.causal);
        for count in [case.sequences.len(), queries, case.counted_rows(), case.size, causal] {
            self.common.push((count as u32).to_le_bytes().to_vec());
        }
        self.common.push(case.scale.to_le_bytes().to_vec());
        let rate = case.rate.unwrap_or(0.0);
        let random = if case.rate.is_some() { self.integers(&KEY) } else { 0 };
        let threshold = (f64::from(rate) * 2f64.powi(24)).ceil() as u32;
        self.common.push(random.to_le_bytes().to_vec());
        self.common.extend([STREAM, threshold].map(|x| x.to_le_bytes().to_vec()));
        self.common.push((1.0 / (1.0 - rate)).to_le_bytes().to_vec());

        if let Some(bias) = case.bias {
            let pointer = self.device.upload(&bytes_of(DType::F32, &data.biases));
            let mut buckets = [bias.exact(), bias.after(), bias.reach()].map(|x| x as i32).to_vec();
            buckets.extend(bias.beginnings().iter().map(|begin| *begin as i32));
            buckets.resize(3 + 31, i32::MAX);
            let buckets = buckets.iter().flat_map(|x| x.to_le_bytes()).collect();
            self.biases = vec![pointer.to_le_bytes().to_vec(), buckets];
            let floats = self.query_blocks() * heads * distances(&case);
            self.bias_sums = self.device.allocate(4 * floats);
        }
        self.d_context = self.device.upload(&bytes_of(case.dtype, &data.d_context));
        self.sums = self.device.allocate(queries * heads * 8);
        let row = heads * case.size * case.dtype.size();
        let lengths = [queries * row, queries * heads * 4, queries * row, rows * row, rows * row];
        self.outputs = lengths.iter().map(|bytes| self.device.allocate(*bytes)).collect();
        if case.wild.is_some() {
            // Not every query belongs to a sequence. So the gradients may read elements that no
            // kernel has computed.
            for (output, bytes) in self.outputs.iter().zip(lengths).take(2) {
                self.device.write(*output, &vec![0; bytes]).unwrap();
            }
        }
    }

    fn integers(&mut self, x: &[i32]) -> u64 {
        self.device.upload(&x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Uploads rows with gaps between them, as in a joined projection. The gaps stay unwritten, and
    /// rows that are not `used` are NaN. Returns the pointer and the distances of rows and heads.
    fn spread(&mut self, x: &[f64], used: impl Fn(usize) -> bool) -> (u64, usize, usize) {
        let (heads, size, item) = (self.case.heads, self.case.size, self.case.dtype.size());
        // The gap keeps the alignment that the kernel may rely on.
        let gap = if self.case.padded.is_some() { 8 } else { 3 };
        let (head, row) = (size + gap, heads * (size + gap) + gap);
        let rows = x.len() / (heads * size).max(1);
        let pointer = self.device.allocate((rows * row * item).max(item));
        for (i, part) in x.chunks(size).enumerate() {
            let (r, h) = (i / heads, i % heads);
            let bytes = bytes_of(self.case.dtype, part);
            let bytes = if used(r) { bytes } else { vec![0xff; bytes.len()] };
            self.device.write(pointer + ((r * row + h * head) * item) as u64, &bytes).unwrap();
        }
        (pointer, row, head)
    }

    /// Enough blocks for all queries.
    fn query_blocks(&self) -> usize {
        let tile = if self.case.padded.is_some() { 64 } else { 32 };
        match self.case.queries() {
            0 => 0,
            queries => queries / tile + self.case.sequences.len(),
        }
    }

    /// Runs a kernel, either the one that is checked in or another one in its place.
    pub(crate) fn launch(
        &mut self,
        kernel: Kernel,
        instead: Option<&Module>,
        how: Launch,
    ) -> Result<(), String> {
        let case = &self.case;
        let (queries, heads, tiles) = (case.queries(), case.heads, case.padded.is_some());
        let tile = if tiles { 64 } else { 32 };
        let x = self.query_blocks();
        let threads = if tiles { 128 } else { 256 };
        let [forward, of_queries, of_keys] = shared(case);
        let (blocks, threads, shared) = match kernel {
            Kernel::Forward => ([x, heads, 1], threads, forward),
            Kernel::Rows => ([(queries * heads).div_ceil(8), 1, 1], 256, 0),
            Kernel::QueryGradient => ([x, heads, 1], threads, of_queries),
            Kernel::KeyGradient => {
                let parts = if case.padded == Some(256) { 2 } else { 1 };
                ([case.rows.div_ceil(tile), heads, parts], threads, of_keys)
            }
        };
        if blocks.contains(&0) {
            return Ok(());
        }
        let pointers = |pointers: &[u64]| -> Vec<Vec<u8>> {
            pointers.iter().map(|p| p.to_le_bytes().to_vec()).collect()
        };
        let counts = |counts: &[usize]| -> Vec<Vec<u8>> {
            counts.iter().map(|n| (*n as u32).to_le_bytes().to_vec()).collect()
        };
        let [o, d, sums] = [&self.outputs, &vec![self.d_context], &vec![self.sums]];
        let arguments = match kernel {
            Kernel::Forward => {
                [self.common.clone(), pointers(&o[..2]), self.biases.clone()].concat()
            }
            Kernel::Rows => [
                pointers(&[o[0], o[1], d[0]]),
                counts(&[queries, heads, case.size]),
                pointers(sums),
                counts(&[queries * heads]),
            ]
            .concat(),
            _ => {
                let outputs = pointers(&o[kernel.results()]);
                let common = self.common.clone();
                let mut all =
                    [common, pointers(d), pointers(sums), outputs, self.biases.clone()].concat();
                if kernel == Kernel::QueryGradient && case.bias.is_some() {
                    all.extend(pointers(&[self.bias_sums]));
                }
                all
            }
        };
        let launch = Launch {
            blocks: blocks.map(|n| n as u32),
            threads: [threads, 1, 1],
            shared,
            steps: 10_000_000,
            ..how
        };
        let name = kernel.name(case);
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let found = match instead {
            Some(module) => self.device.launch(module, &name, &launch, &arguments),
            None => self.device.launch(&module(&name), &name, &launch, &arguments),
        };
        let counters = found.map_err(|fault| fault.to_string())?;
        self.counters.shared_passes += counters.shared_passes;
        self.counters.bank_conflicts += counters.bank_conflicts;
        Ok(())
    }

    /// Runs all kernels.
    pub(crate) fn all(&mut self, how: Launch) -> Result<Results, String> {
        for kernel in Kernel::ALL {
            self.launch(kernel, None, how)?;
        }
        let mut results = Results::default();
        for (i, result) in results.iter_mut().enumerate() {
            *result = self.result(i)?;
        }
        Ok(results)
    }

    /// One of the results.
    pub(crate) fn result(&mut self, i: usize) -> Result<Vec<f64>, String> {
        let case = &self.case;
        if i == 5 {
            return self.bias_gradient();
        }
        let width = case.heads * case.size;
        let n = [case.queries() * width, case.queries() * case.heads, case.queries() * width];
        let n = n.get(i).copied().unwrap_or(case.rows * width);
        let dtype = if i == 1 { DType::F32 } else { case.dtype };
        let bytes = self.device.download(self.outputs[i], n * dtype.size());
        Ok(numbers_of(dtype, &bytes.map_err(|e| e.to_string())?))
    }

    /// Adds the sums of the blocks and runs the kernel that maps distances to buckets.
    fn bias_gradient(&mut self) -> Result<Vec<f64>, String> {
        let Some(bias) = self.case.bias else { return Ok(Vec::new()) };
        let (heads, distances) = (self.case.heads, distances(&self.case));
        let (width, n) = (heads * distances, bias.buckets * heads);
        let bytes = self.device.download(self.bias_sums, 4 * width * self.query_blocks());
        let bytes = bytes.map_err(|e| e.to_string())?;
        let mut sums = vec![0f32; width];
        for (i, b) in bytes.chunks(4).enumerate() {
            sums[i % width] += f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
        let sums: Vec<u8> = sums.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (sums, out) = (self.device.upload(&sums), self.device.allocate(4 * n));
        let arguments = [
            sums.to_le_bytes().to_vec(),
            (heads as u32).to_le_bytes().to_vec(),
            self.biases[1].clone(),
            out.to_le_bytes().to_vec(),
            (n as u32).to_le_bytes().to_vec(),
        ];
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let blocks = [n.div_ceil(256) as u32, 1, 1];
        let launch = Launch { blocks, threads: [256, 1, 1], ..Launch::default() };
        let name = "attention_bias_gradient";
        let launched = self.device.launch(&module(name), name, &launch, &arguments);
        launched.map_err(|fault| fault.to_string())?;
        let bytes = self.device.download(out, 4 * n).map_err(|e| e.to_string())?;
        Ok(numbers_of(DType::F32, &bytes))
    }
}

/// The number of distances that have biases of their own in a block.
fn distances(case: &Case) -> usize {
    case.bias.map_or(0, |bias| 2 * bias.reach() + 1)
}

/// Bytes of shared memory for the forward kernel, the gradient of queries and the gradient of keys,
/// as in `src/fused/attention.rs`.
fn shared(case: &Case) -> [usize; 3] {
    let (biases, biased) = (4 * distances(case), case.bias.is_some());
    let Some(padded) = case.padded else {
        let row = 16 * (case.size.div_ceil(4) | 1);
        let last = if biased { (32 * row).max(4 * 32 * 41) } else { 32 * row };
        return [2 * 32 * row + biases, 2 * 32 * row + last + 2 * biases, 3 * 32 * row + biases];
    };
    let row = 2 * (padded + 8);
    let dropout = usize::from(case.rate.is_some());
    if padded > 128 {
        let backward = (128 + 32) * row + 16 * 8 + 16 + dropout * 64 * 20;
        return [(4 * 16 + 64) * row + dropout * 64 * 20, backward, backward];
    }
    let backward = (128 + 128) * row + 64 * 8 + 16 + biases + dropout * 64 * 36;
    let of_queries = backward + biases + if biased { 4 * 64 * 41 } else { 0 };
    [4 * 64 * row + biases + dropout * 64 * 68, of_queries, backward]
}
