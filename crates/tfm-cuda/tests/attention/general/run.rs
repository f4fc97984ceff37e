//! Runs the general kernels in the interpreter, in the way that the host code runs them.

use super::{Data, Kernels, Lookup, Problem, Set, SetData};
use crate::case::{KEY, STREAM, bytes_of, numbers_of};
use crate::device::module;
use tfm_core::DType;
use tfm_ptx_emu::{Counters, Device, Launch, Module};

/// The most blocks that share the keys of one head of one query, and how many keys a chunk has.
const PARTS: usize = 8;
const CHUNK: usize = 64;

/// What may be wrong with the arguments of a kernel. The tests must notice each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The window of a set ends one key later.
    WiderWindow(usize),
    /// The window of a set ends one key earlier.
    NarrowerWindow(usize),
    /// As many heads of keys are read as if groups had another size.
    OtherGroup(usize),
    NoCap,
    /// Only the first set is there.
    OneSet,
    /// The second set is taken for the first.
    FirstSetTwice,
    /// A set's biases are left out.
    NoBias(usize),
    /// A set is causal where it is not, or the reverse.
    OtherCausality(usize),
}

pub(super) fn long(x: u64) -> Vec<u8> {
    x.to_le_bytes().to_vec()
}

fn int(x: usize) -> Vec<u8> {
    (x as u32).to_le_bytes().to_vec()
}

fn float(x: f32) -> Vec<u8> {
    x.to_le_bytes().to_vec()
}

fn integers(device: &mut Device, x: &[i32]) -> u64 {
    device.upload(&x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

impl Problem {
    pub(super) fn kernel(&self) -> String {
        let dtype = match self.dtype {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            _ => "f32",
        };
        match self.kernels {
            Kernels::Tiles(padded) => format!("attention_general_{dtype}_{padded}"),
            Kernels::Plain => format!("attention_plain_general_{dtype}"),
            Kernels::Single(loaded) => format!("row_table_attention_general_{dtype}_{loaded}"),
            Kernels::SingleAny => format!("row_table_attention_general_{dtype}_any"),
        }
    }

    fn is_single(&self) -> bool {
        matches!(self.kernels, Kernels::Single(_) | Kernels::SingleAny)
    }

    /// Context and, of kernels by ranges, log Σ exp.
    pub(super) fn run(
        &self,
        data: &Data,
        how: Launch,
        instead: Option<&Module>,
        fault: Option<Fault>,
    ) -> Result<(Vec<Vec<f64>>, Counters), String> {
        let mut device = Device::new();
        let query = self.spread(&mut device, &data.query, self.heads, |_| true);
        let sets = self.sets(&mut device, data, fault);
        let cap = self.cap.filter(|_| fault != Some(Fault::NoCap));
        let scale = cap.map_or(self.scale, |cap| self.scale / cap);
        let numbers = [float(scale), float(cap.unwrap_or(0.0))];
        let n = self.queries * self.heads;
        let context = device.allocate((n * self.size * self.dtype.size()).max(1));
        let sums = device.allocate((4 * n).max(1));
        if self.wild.is_some() {
            // Not every query belongs to a sequence.
            device.write(context, &vec![0; n * self.size * self.dtype.size()]).unwrap();
            device.write(sums, &vec![0; 4 * n]).unwrap();
        }
        let counters = if self.is_single() {
            let numbers =
                [query, vec![int(self.queries), int(self.heads), int(self.size)], numbers.into()];
            let arguments = [numbers.concat(), sets].concat();
            self.run_single(&mut device, arguments, context, how, instead)?
        } else {
            let rate = self.rate.unwrap_or(0.0);
            let random = if self.rate.is_some() { integers(&mut device, &KEY) } else { 0 };
            let threshold = (f64::from(rate) * 2f64.powi(24)).ceil() as usize;
            let dropout =
                vec![long(random), int(STREAM as usize), int(threshold), float(1.0 / (1.0 - rate))];
            let arguments =
                [query, vec![int(self.queries), int(self.size)], numbers.into(), dropout];
            let arguments = [arguments.concat(), sets, vec![long(context), long(sums)]].concat();
            let (tile, threads) =
                if self.kernels == Kernels::Plain { (32, 256) } else { (64, 128) };
            let Lookup::Ranges(sequences) = &self.sets[0].lookup else { unreachable!("by ranges") };
            let blocks = if self.queries == 0 { 0 } else { self.queries / tile + sequences.len() };
            let launch = Launch {
                blocks: [blocks as u32, self.heads as u32, 1],
                threads: [threads, 1, 1],
                shared: self.shared(),
                ..how
            };
            self.launch(&mut device, &self.kernel(), launch, &arguments, instead)?
        };
        let read = |device: &mut Device, at: u64, n: usize, dtype: DType| {
            let bytes = device.download(at, n * dtype.size()).map_err(|fault| fault.to_string())?;
            Ok::<_, String>(numbers_of(dtype, &bytes))
        };
        let mut found = vec![read(&mut device, context, n * self.size, self.dtype)?];
        if !self.is_single() {
            found.push(read(&mut device, sums, n, DType::F32)?);
        }
        Ok((found, counters))
    }

    fn launch(
        &self,
        device: &mut Device,
        name: &str,
        launch: Launch,
        arguments: &[Vec<u8>],
        instead: Option<&Module>,
    ) -> Result<Counters, String> {
        if launch.blocks.contains(&0) {
            return Ok(Counters::default());
        }
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let launch = Launch { steps: 10_000_000, ..launch };
        let found = match instead {
            Some(module) => device.launch(module, name, &launch, &arguments),
            None => device.launch(&module(name), name, &launch, &arguments),
        };
        found.map_err(|fault| fault.to_string())
    }

    fn run_single(
        &self,
        device: &mut Device,
        mut arguments: Vec<Vec<u8>>,
        context: u64,
        how: Launch,
        instead: Option<&Module>,
    ) -> Result<Counters, String> {
        let most = |set: &Set| match &set.lookup {
            Lookup::Table(width, ..) => *width,
            Lookup::Ranges(_) => set.rows,
        };
        let chunks: usize = self.sets.iter().map(|set| most(set).div_ceil(CHUNK)).sum();
        let parts = chunks.clamp(1, PARTS);
        let n = self.queries * self.heads;
        // The memory stays unwritten, so that a read finds what the kernel leaves out.
        let partial = if parts == 1 { 0 } else { device.allocate(n * parts * (self.size + 2) * 4) };
        arguments.push(long(if parts == 1 { context } else { 0 }));
        arguments.push(long(partial));
        let launch = Launch {
            blocks: [n as u32, parts as u32, 1],
            threads: [128, 1, 1],
            shared: 16 * (self.size + 2) + 4 * CHUNK,
            ..how
        };
        let counters = self.launch(device, &self.kernel(), launch, &arguments, instead)?;
        if parts > 1 {
            let all = n * self.size;
            let arguments = [long(partial), int(self.size), int(parts), long(context), int(all)];
            let blocks = [all.div_ceil(256) as u32, 1, 1];
            let launch = Launch { blocks, threads: [256, 1, 1], ..how };
            let kernel = self.kernel();
            let dtype = kernel.rsplit('_').nth(1).unwrap();
            self.launch(device, &format!("merge_parts_{dtype}"), launch, &arguments, None)?;
        }
        Ok(counters)
    }

    /// Bytes of shared memory of the kernels by ranges, as in `src/fused/attention_general.rs`.
    fn shared(&self) -> usize {
        let distances = |set: &Set| set.bias.map_or(0, |bias| 2 * bias.reach() + 1);
        let biases = 4 * self.sets.iter().map(distances).sum::<usize>();
        let Kernels::Tiles(padded) = self.kernels else {
            return 2 * 32 * 16 * (self.size.div_ceil(4) | 1) + biases;
        };
        let (keys, queries) = if padded > 128 { (16, 64) } else { (32, 0) };
        let dropout = if self.rate.is_some() { 64 * (keys + 4) } else { 0 };
        (4 * keys + queries) * 2 * (padded + 8) + biases + dropout
    }

    /// The number of sets, and the arguments of both.
    fn sets(&self, device: &mut Device, data: &Data, fault: Option<Fault>) -> Vec<Vec<u8>> {
        let mut all: Vec<(&Set, &SetData)> = self.sets.iter().zip(&data.sets).collect();
        match fault {
            Some(Fault::OneSet) => all.truncate(1),
            Some(Fault::FirstSetTwice) => all[1] = all[0],
            _ => {}
        }
        let mut arguments = vec![int(all.len())];
        for n in 0..2 {
            match all.get(n) {
                Some((set, numbers)) => {
                    arguments.extend(self.set(device, n, set, numbers, fault));
                }
                None => {
                    arguments.extend((0..8).map(|_| long(0)));
                    arguments.extend([0, 0, 0, 0, 1, 1].map(int));
                    arguments.extend([long(0), vec![0; 4 * 34]]);
                }
            }
        }
        arguments
    }

    fn set(
        &self,
        device: &mut Device,
        n: usize,
        set: &Set,
        numbers: &SetData,
        fault: Option<Fault>,
    ) -> Vec<Vec<u8>> {
        let mut used = vec![false; set.rows];
        (0..self.queries).flat_map(|i| set.seen(i)).for_each(|(row, _)| used[row] = true);
        let mut arguments = self.spread(device, &numbers.key, set.kv_heads, |row| used[row]);
        arguments.extend(self.spread(device, &numbers.value, set.kv_heads, |row| used[row]));
        let (count, right) = match &set.lookup {
            Lookup::Ranges(sequences) => {
                let ends = sequences.iter().scan(0, |end, s| {
                    *end += s.0 as i32;
                    Some(*end)
                });
                let offsets = [0].into_iter().chain(ends).collect();
                let ranges = sequences.iter().flat_map(|s| [s.1.0 as i32, s.1.1 as i32]).collect();
                (sequences.len(), [offsets, ranges])
            }
            Lookup::Table(width, table, lengths) => (*width, [table.clone(), lengths.clone()]),
        };
        let told = self.wild.clone().filter(|_| n == 0).unwrap_or(right);
        arguments.extend(told.map(|numbers| long(integers(device, &numbers))));
        let is_table = matches!(set.lookup, Lookup::Table(..));
        let causal = set.causal != (fault == Some(Fault::OtherCausality(n)));
        let window = set.window.map_or(i32::MAX as usize, |window| match fault {
            Some(Fault::WiderWindow(of)) if of == n => window + 1,
            Some(Fault::NarrowerWindow(of)) if of == n => window - 1,
            _ => window,
        });
        let group = self.heads / set.kv_heads;
        let group = if fault == Some(Fault::OtherGroup(n)) { group + 1 } else { group };
        let flags = [count, set.rows, usize::from(is_table), usize::from(causal), window, group];
        arguments.extend(flags.map(int));
        let bias = set.bias.filter(|_| fault != Some(Fault::NoBias(n)));
        let pointer = bias.map_or(0, |_| device.upload(&bytes_of(DType::F32, &numbers.biases)));
        let mut buckets = Vec::new();
        if let Some(bias) = bias {
            buckets.extend([bias.exact(), bias.after(), bias.reach()].map(|x| x as i32));
            buckets.extend(bias.beginnings().iter().map(|begin| *begin as i32));
        }
        buckets.resize(3.max(buckets.len()), 0);
        buckets.resize(3 + 31, i32::MAX);
        let buckets = buckets.iter().flat_map(|x| x.to_le_bytes()).collect();
        arguments.extend([long(pointer), buckets]);
        arguments
    }

    /// Uploads rows with gaps between them. The gaps stay unwritten, and rows that are not `used`
    /// are NaN. Returns the pointer and the distances of rows and heads.
    fn spread(
        &self,
        device: &mut Device,
        x: &[f64],
        heads: usize,
        used: impl Fn(usize) -> bool,
    ) -> Vec<Vec<u8>> {
        let (size, item) = (self.size, self.dtype.size());
        let gap = match self.kernels {
            Kernels::Plain | Kernels::SingleAny => 3,
            _ => 8,
        };
        let (head, row) = (size + gap, heads * (size + gap) + gap);
        let rows = x.len() / (heads * size).max(1);
        let pointer = device.allocate((rows * row * item).max(item));
        for (i, part) in x.chunks(size).enumerate() {
            let bytes = bytes_of(self.dtype, part);
            let bytes = if used(i / heads) { bytes } else { vec![0xff; bytes.len()] };
            let at = i / heads * row + i % heads * head;
            device.write(pointer + (at * item) as u64, &bytes).unwrap();
        }
        vec![long(pointer), long(row as u64), long(head as u64)]
    }
}
