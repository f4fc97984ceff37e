//! The state of a warp: registers, where each lane is, its clocks and its copies under way.

use std::collections::VecDeque;

use crate::execute::{Failure, Machine};
use crate::fault::Problem;
use crate::instruction::{Operand, Special};
use crate::integer::low;
use crate::memory::Local;
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

/// One value a lane.
pub(crate) type Values = [u64; LANES];

/// The lanes of a mask, from the first.
#[inline]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) number: u32,
    pub(crate) state: State,
    /// The lanes that exist and have not ended.
    pub(crate) live: u32,
    /// Where the lanes are, if all are at one place; else `at` says it of each (of one that has ended: the largest number).
    together: Option<u32>,
    at: [u32; LANES],
    /// `[register][lane]`, and for each register the lanes that have written it.
    registers: Vec<Values>,
    defined: Vec<u32>,
    /// Each lane's own, made when it is first touched.
    pub(crate) local: Vec<Option<Local>>,
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
            together: Some(0),
            at: [u32::MAX; LANES],
            registers: vec![[0; LANES]; kernel.registers.len()],
            defined: vec![0; kernel.registers.len()],
            local: vec![None; LANES],
            clocks,
            copies: vec![Copies::default(); LANES],
        }
    }

    /// The instruction that comes first among the lanes', and the lanes that are there.
    #[inline]
    pub(crate) fn next(&self) -> (u32, u32) {
        if let Some(at) = self.together {
            return (at, self.live);
        }
        let first = self.at.iter().copied().min().unwrap_or(0);
        let here = self.at.iter().enumerate().filter(|(_, at)| **at == first);
        (first, here.fold(0, |mask, (lane, _)| mask | 1 << lane))
    }

    /// Lanes go on at an instruction; those that are not named stay where they are.
    #[inline]
    pub(crate) fn jump(&mut self, which: u32, to: u32) {
        if which == self.live {
            self.together = Some(to);
            return;
        }
        if let Some(at) = self.together.take() {
            self.at = [u32::MAX; LANES];
            lanes(self.live).for_each(|lane| self.at[lane] = at);
        }
        lanes(which).for_each(|lane| self.at[lane] = to);
    }

    pub(crate) fn end(&mut self, which: u32) {
        self.live &= !which;
        lanes(which).for_each(|lane| self.at[lane] = u32::MAX);
    }

    /// An operand's values, which the lanes of `active` must have written. Those of other lanes mean nothing.
    #[inline]
    pub(crate) fn fetch<'a>(
        &'a self,
        operand: Operand,
        active: u32,
        room: &'a mut Values,
        machine: &Machine<'_>,
    ) -> Result<&'a Values, Failure> {
        let (values, defined) = self.values(operand, room, machine);
        if defined & active != active
            && let Operand::Register(r) = operand
        {
            let register = machine.kernel.registers[r as usize].name.clone();
            let lane = (active & !defined).trailing_zeros() as usize;
            return Err((Problem::Undefined { register }, lane));
        }
        Ok(values)
    }

    /// An operand's values, and the lanes that have written them.
    #[inline]
    pub(crate) fn values<'a>(
        &'a self,
        operand: Operand,
        room: &'a mut Values,
        machine: &Machine<'_>,
    ) -> (&'a Values, u32) {
        match operand {
            Operand::Register(r) => {
                return (&self.registers[r as usize], self.defined[r as usize]);
            }
            Operand::Immediate(value) => *room = [value; LANES],
            Operand::Special(special) => {
                for (lane, value) in room.iter_mut().enumerate() {
                    *value = self.special(special, lane, &machine.place);
                }
            }
            Operand::Variable(v) => *room = [machine.variables[v as usize]; LANES],
            Operand::Sink => *room = [0; LANES],
        }
        (room, u32::MAX)
    }

    /// Writes an operand of the lanes of `active`.
    #[inline]
    pub(crate) fn put(&mut self, d: Operand, active: u32, values: &Values, kernel: &Kernel) {
        let Operand::Register(r) = d else { return };
        let (r, mask) = (r as usize, low(kernel.registers[r as usize].bits, u64::MAX));
        let register = &mut self.registers[r];
        if active == u32::MAX {
            for (to, value) in register.iter_mut().zip(values) {
                *to = value & mask;
            }
        } else {
            for lane in lanes(active) {
                register[lane] = values[lane] & mask;
            }
        }
        self.defined[r] |= active;
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
