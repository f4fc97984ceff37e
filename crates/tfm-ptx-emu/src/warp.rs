//! The state of a warp: registers, where each lane is, its clocks and its copies under way.

use std::collections::VecDeque;

use crate::fault::Problem;
use crate::instruction::{Operand, Special};
use crate::integer::low;
use crate::memory::Region;
use crate::module::Kernel;

pub(crate) const LANES: usize = 32;

/// A copy that has been asked for.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) to: u64,
    pub(crate) from: u64,
    /// Bytes to copy, and bytes to write: what is beyond is zero.
    pub(crate) size: usize,
    pub(crate) bytes: usize,
}

/// One lane's copies: those not committed yet, and the groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copies {
    pub(crate) open: Vec<Copy>,
    pub(crate) groups: VecDeque<Vec<Copy>>,
}

impl Copies {
    pub(crate) fn count(&self) -> usize {
        self.open.len() + self.groups.iter().map(Vec::len).sum::<usize>()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// At the barrier of this number.
    Waits(u8),
    Done,
}

#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) number: u32,
    pub(crate) state: State,
    /// The lanes that exist and have not ended.
    pub(crate) live: u32,
    pub(crate) at: [u32; LANES],
    /// `[register][lane]`, and for each register the lanes that have written it.
    registers: Vec<[u64; LANES]>,
    defined: Vec<u32>,
    /// Each lane's own, made when it is first touched.
    pub(crate) local: Vec<Option<Region>>,
    /// What is known of each warp of the block, this one included.
    pub(crate) clocks: Vec<u32>,
    pub(crate) copies: Vec<Copies>,
}

/// Where a warp's block stands in the grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) block: [u32; 3],
    pub(crate) grid: [u32; 3],
    pub(crate) threads: [u32; 3],
    /// Bytes of shared memory that the kernel declares, and those that the launch adds.
    pub(crate) shared: [u32; 2],
}

impl Place {
    pub(crate) fn thread(&self, index: u32) -> [u32; 3] {
        let [x, y, _] = self.threads;
        [index % x, index / x % y, index / x / y]
    }
}

impl Warp {
    pub(crate) fn new(kernel: &Kernel, number: u32, threads: u32, warps: usize) -> Warp {
        let lanes = threads.saturating_sub(number * LANES as u32).min(LANES as u32);
        let mut clocks = vec![0; warps];
        clocks[number as usize] = 1;
        Warp {
            number,
            state: State::Ready,
            live: if lanes == 32 { u32::MAX } else { (1 << lanes) - 1 },
            at: [0; LANES],
            registers: vec![[0; LANES]; kernel.registers.len()],
            defined: vec![0; kernel.registers.len()],
            local: vec![None; LANES],
            clocks,
            copies: vec![Copies::default(); LANES],
        }
    }

    /// The instruction that comes first among the lanes', and the lanes that are there.
    pub(crate) fn next(&self) -> (u32, u32) {
        let lanes = || (0..LANES).filter(|lane| self.live >> lane & 1 != 0);
        let first = lanes().map(|lane| self.at[lane]).min().unwrap_or(0);
        let here = lanes().filter(|lane| self.at[*lane] == first);
        (first, here.fold(0, |mask, lane| mask | 1 << lane))
    }

    #[inline]
    pub(crate) fn read(
        &self,
        operand: Operand,
        lane: usize,
        kernel: &Kernel,
        place: &Place,
        variables: &[u64],
    ) -> Result<u64, Problem> {
        match operand {
            Operand::Register(r) => {
                let r = r as usize;
                if self.defined[r] >> lane & 1 == 0 {
                    return Err(Problem::Undefined { register: kernel.registers[r].name.clone() });
                }
                Ok(self.registers[r][lane])
            }
            Operand::Immediate(value) => Ok(value),
            Operand::Special(special) => Ok(self.special(special, lane, place)),
            Operand::Variable(v) => Ok(variables[v as usize]),
            Operand::Sink => Ok(0),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, operand: Operand, lane: usize, value: u64, kernel: &Kernel) {
        if let Operand::Register(r) = operand {
            let r = r as usize;
            self.registers[r][lane] = low(kernel.registers[r].bits, value);
            self.defined[r] |= 1 << lane;
        }
    }

    fn special(&self, special: Special, lane: usize, place: &Place) -> u64 {
        let index = self.number * LANES as u32 + lane as u32;
        let bit = 1u64 << lane;
        match special {
            Special::Thread(axis) => place.thread(index)[axis as usize].into(),
            Special::Threads(axis) => place.threads[axis as usize].into(),
            Special::Block(axis) => place.block[axis as usize].into(),
            Special::Blocks(axis) => place.grid[axis as usize].into(),
            Special::Lane => lane as u64,
            Special::Warp => self.number.into(),
            Special::Warps => self.clocks.len() as u64,
            Special::LanesBelow => bit - 1,
            Special::LanesUpTo => 2 * bit - 1,
            Special::LanesAbove => low(32, !(2 * bit - 1)),
            Special::LanesFrom => low(32, !(bit - 1)),
            Special::ThisLane => bit,
            Special::Clock => self.clocks[self.number as usize].into(),
            Special::DynamicShared => u64::from(place.shared[0].next_multiple_of(16)),
            Special::SharedSize => place.shared[1].into(),
        }
    }
}
