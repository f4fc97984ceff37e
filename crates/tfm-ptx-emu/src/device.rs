//! The device: its memory, and launches of kernels.

use crate::asynchronous::Barriers;
use crate::block::block;
use crate::execute::Machine;
use crate::fault::{Fault, Problem};
use crate::memory::{Global, GridRegion, Shared};
use crate::module::{Kernel, Module};
use crate::warp::{GridPosition, LANES, Warp};

/// How a kernel is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks in each direction.
    pub blocks: [u32; 3],
    /// Threads of a block in each direction.
    pub threads: [u32; 3],
    /// Bytes of shared memory in addition to those that the kernel declares.
    pub shared: usize,
    /// Decides the order in which blocks and warps run.
    pub seed: u64,
    /// Whether asynchronous copies take place only when the kernel waits for them, instead of at
    /// once.
    pub lazy: bool,
    /// The most instructions, counted once a warp, that the launch may execute.
    pub steps: u64,
}

impl Default for Launch {
    fn default() -> Self {
        Launch {
            blocks: [1; 3],
            threads: [1; 3],
            shared: 0,
            seed: 0,
            lazy: false,
            steps: 10_000_000_000,
        }
    }
}

/// What a launch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Instructions, counted once a warp.
    pub instructions: u64,
    /// Instructions, counted once a thread.
    pub thread_instructions: u64,
    /// Bytes of global memory that loads and stores asked for.
    pub global_bytes: u64,
    /// Sectors of 32 bytes that loads and stores touched.
    pub global_sectors: u64,
    /// Passes that accesses of shared memory took.
    pub shared_passes: u64,
    /// The passes among them that bank conflicts caused.
    pub bank_conflicts: u64,
}

/// An emulated device.
#[derive(Debug, Clone, Default)]
pub struct Device {
    global: Global,
    /// The number of blocks in all launches so far.
    blocks: u32,
}

/// The most shared memory that a block can have, in bytes.
const MOST_SHARED: usize = 227 << 10;
const MOST_THREADS: u64 = 1024;

/// A device memory address.
pub type Pointer = u64;

impl Device {
    /// A device without allocations.
    pub fn new() -> Device {
        Device::default()
    }

    /// Allocates memory. A kernel that reads it before something writes it is at fault.
    pub fn allocate(&mut self, bytes: usize) -> Pointer {
        self.global.allocate(bytes)
    }

    /// Allocates memory with this content.
    pub fn upload(&mut self, bytes: &[u8]) -> Pointer {
        let pointer = self.allocate(bytes.len());
        self.write(pointer, bytes).expect("it has just been allocated");
        pointer
    }

    /// Writes to memory.
    ///
    /// # Errors
    /// The range is not allocated.
    pub fn write(&mut self, at: Pointer, bytes: &[u8]) -> Result<(), Problem> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (region, offset) = self.range(at, bytes.len())?;
        region.fill(offset, bytes);
        Ok(())
    }

    /// Reads memory.
    ///
    /// # Errors
    /// The range is not allocated, or part of it was never written.
    pub fn download(&mut self, at: Pointer, bytes: usize) -> Result<Vec<u8>, Problem> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let (region, offset) = self.range(at, bytes)?;
        region.content(offset, bytes).map(<[u8]>::to_vec)
    }

    /// Copies memory. Bytes that were never written count as never written in the copy too.
    ///
    /// # Errors
    /// One of the two ranges is not allocated.
    pub fn copy(&mut self, to: Pointer, from: Pointer, bytes: usize) -> Result<(), Problem> {
        if bytes == 0 {
            return Ok(());
        }
        let (source, offset) = self.range(from, bytes)?;
        let state = source.state(offset, bytes);
        let (target, offset) = self.range(to, bytes)?;
        target.set_state(offset, &state);
        Ok(())
    }

    fn range(&mut self, at: Pointer, bytes: usize) -> Result<(&mut GridRegion, usize), Problem> {
        let region = self.global.region(at, bytes)?;
        let offset = (at - region.start()) as usize;
        if bytes > region.len() - offset {
            return Err(Problem::OutOfBounds { space: "global", address: at, bytes });
        }
        Ok((region, offset))
    }

    /// Frees memory.
    ///
    /// # Errors
    /// `at` is not the start of an allocation.
    pub fn free(&mut self, at: Pointer) -> Result<(), Problem> {
        if self.global.free(at) {
            return Ok(());
        }
        Err(Problem::OutOfBounds { space: "global", address: at, bytes: 0 })
    }

    /// Runs a kernel to its end. The arguments are given as bytes, in the order of the parameters.
    /// At every launch, the module's variables begin with their initial content.
    ///
    /// # Errors
    /// The first fault of the kernel, or what is wrong with the launch.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        launch: &Launch,
        arguments: &[&[u8]],
    ) -> Result<Counters, Fault> {
        let refuse = |problem: String| Fault {
            problem: Problem::Launch(problem),
            kernel: kernel.into(),
            line: 0,
            block: [0; 3],
            thread: [0; 3],
        };
        let kernel =
            module.kernel(kernel).ok_or_else(|| refuse("the module has no such kernel".into()))?;
        let parameters = parameters(kernel, arguments).map_err(refuse)?;
        let product = |extents: [u32; 3]| extents.iter().map(|n| u64::from(*n)).product::<u64>();
        let (blocks, threads) = (product(launch.blocks), product(launch.threads));
        if threads == 0 || threads > MOST_THREADS || blocks == 0 || blocks > 1 << 24 {
            return Err(refuse(format!("{blocks} blocks of {threads} threads")));
        }
        let shared = kernel.shared.next_multiple_of(16) + launch.shared;
        if shared > MOST_SHARED {
            return Err(refuse(format!(
                "{shared} bytes of shared memory; a block can have {MOST_SHARED}"
            )));
        }
        let variables: Vec<_> =
            module.variables.iter().map(|v| self.variable(v.align, &v.bytes)).collect();
        let warps = threads.div_ceil(LANES as u64) as usize;
        let first_block = self.blocks + 1;
        let count = threads as u32;
        let mut all: Vec<Warp> =
            (0..warps).map(|number| Warp::new(kernel, number as u32, count, warps)).collect();
        let mut random = Random(launch.seed);
        let mut order: Vec<u32> = (0..blocks as u32).collect();
        random.shuffle(&mut order);
        let mut counters = Counters::default();
        let mut result = Ok(());
        for index in order {
            self.blocks += 1;
            let [x, y, _] = launch.blocks;
            let position = GridPosition {
                block: [index % x, index / x % y, index / x / y],
                grid: launch.blocks,
                threads: launch.threads,
                shared: [kernel.shared as u32, launch.shared as u32],
            };
            let mut memory = Shared::new(shared, warps, kernel.asynchronous);
            let mut asynchronous = Barriers::default();
            let machine = Machine {
                kernel,
                parameters: &parameters,
                variables: &variables,
                position,
                global: &mut self.global,
                shared: &mut memory,
                barriers: &mut asynchronous,
                counters: &mut counters,
                block: self.blocks,
                first_block,
                lazy: launch.lazy,
            };
            all.iter_mut().for_each(|warp| warp.start(kernel, count, warps));
            result = block(machine, &mut all, count, launch.steps, &mut random);
            if result.is_err() {
                break;
            }
        }
        for variable in variables {
            self.global.free(variable);
        }
        result.map(|()| counters)
    }

    fn variable(&mut self, align: u64, bytes: &[u8]) -> Pointer {
        // Allocations are aligned to 256 bytes, which is more than variables ask for.
        debug_assert!(align <= 1 << 16);
        self.upload(bytes)
    }
}

/// Lays out the arguments where the kernel expects its parameters.
fn parameters(kernel: &Kernel, arguments: &[&[u8]]) -> Result<Vec<u8>, String> {
    let expected = kernel.parameters.len();
    if arguments.len() != expected {
        return Err(format!("{} arguments for {expected} parameters", arguments.len()));
    }
    let end = kernel.parameters.iter().map(|(offset, size)| offset + size).max().unwrap_or(0);
    let mut bytes = vec![0; end];
    for (i, ((offset, size), argument)) in kernel.parameters.iter().zip(arguments).enumerate() {
        if argument.len() != *size {
            return Err(format!("argument {i} has {} bytes, the parameter {size}", argument.len()));
        }
        bytes[*offset..offset + size].copy_from_slice(argument);
    }
    Ok(bytes)
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
