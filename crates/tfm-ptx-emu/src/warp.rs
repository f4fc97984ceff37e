//! The state of a warp: its registers, the place of each lane, its clocks, and its unfinished
//! copies.

use std::collections::VecDeque;

use crate::asynchronous::Begun;
use crate::execute::{Failure, Machine};
use crate::fault::Problem;
use crate::instruction::{Operand, Special};
use crate::integer::low;
use crate::memory::{AGENTS, Local, Pairs};
use crate::module::Kernel;

pub(crate) const LANES: usize = 32;

/// A copy that a lane has issued.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) to: u64,
    pub(crate) from: u64,
    /// Bytes to copy, and bytes to write. Those beyond the copied ones are zero.
    pub(crate) size: usize,
    pub(crate) bytes: usize,
}

/// The copies of one lane: those that are not committed yet, and the committed groups.
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
    /// It waits at the barrier of this number.
    Waits(u8),
    /// It waits for the barrier in shared memory at this address, as long as that has this version.
    Sleeps(u64, u64),
    Done,
}

/// One value for each lane.
pub(crate) type Values = [u64; LANES];

/// The lanes of a mask, in ascending order.
#[inline]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

/// One value for each lane: its bit of the mask.
fn bits(mask: u32) -> Values {
    let mut values = [0; LANES];
    values.iter_mut().enumerate().for_each(|(lane, x)| *x = (mask >> lane & 1).into());
    values
}

/// The lanes whose value is not 0.
fn mask(values: &Values) -> u32 {
    values.iter().rev().fold(0, |mask, x| mask << 1 | u32::from(*x != 0))
}

#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) number: u32,
    pub(crate) state: State,
    /// The lanes that exist and have not ended.
    pub(crate) live: u32,
    /// The place of all lanes, if they are at the same one. Otherwise `at` has the place of each; a
    /// lane that has ended is at the largest number.
    together: Option<u32>,
    at: [u32; LANES],
    /// For each register, the value in each lane, the lanes in which a predicate holds, and the
    /// lanes that have written it.
    registers: Vec<Values>,
    predicates: Vec<u32>,
    defined: Vec<u32>,
    pub(crate) local: Local,
    /// The warp's own clock, which each synchronisation advances.
    pub(crate) clock: u32,
    /// What the warp knows of each warp of the block. For itself, it is what all of its lanes know
    /// of one another.
    pub(crate) clocks: Vec<u32>,
    /// What some lanes know of one another beyond that.
    pub(crate) pairs: Option<Box<Pairs>>,
    copies: Vec<Copies>,
    /// Present in kernels with asynchronous instructions of compute capability 9.0.
    pub(crate) begun: Option<Box<Begun>>,
}

/// The grid, and the position of a block in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GridPosition {
    pub(crate) block: [u32; 3],
    pub(crate) grid: [u32; 3],
    pub(crate) threads: [u32; 3],
    /// The bytes of shared memory that the kernel declares, and those that the launch adds.
    pub(crate) shared: [u32; 2],
}

impl GridPosition {
    pub(crate) fn warps(&self) -> u32 {
        self.threads.iter().product::<u32>().div_ceil(LANES as u32)
    }

    pub(crate) fn thread(&self, index: u32) -> [u32; 3] {
        let [x, y, _] = self.threads;
        [index % x, index / x % y, index / x / y]
    }
}

impl Warp {
    pub(crate) fn new(kernel: &Kernel, number: u32, threads: u32, warps: usize) -> Warp {
        let registers = kernel.registers.len();
        let mut warp = Warp {
            number,
            state: State::Ready,
            live: 0,
            together: Some(0),
            at: [u32::MAX; LANES],
            registers: vec![[0; LANES]; registers],
            predicates: vec![0; registers],
            defined: vec![0; registers],
            local: Local::new(kernel.local),
            clock: 1,
            pairs: None,
            clocks: vec![0; if kernel.asynchronous { AGENTS } else { warps }],
            copies: Vec::new(),
            begun: None,
        };
        warp.start(kernel, threads, warps);
        warp
    }

    /// Makes this a warp of the next block, of which `threads` threads exist.
    pub(crate) fn start(&mut self, kernel: &Kernel, threads: u32, warps: usize) {
        let lanes = threads.saturating_sub(self.number * LANES as u32).min(LANES as u32);
        self.live = u32::MAX.checked_shr(LANES as u32 - lanes).unwrap_or(0);
        (self.state, self.together) = (State::Ready, Some(0));
        // Old values of registers need not be cleared, since no lane counts as having written them.
        self.defined.fill(0);
        self.local.clear();
        self.clocks.fill(0);
        (self.clock, self.pairs) = (1, None);
        self.copies.clear();
        self.begun =
            kernel.asynchronous.then(|| Box::new(Begun::new(kernel.registers.len(), warps)));
    }

    /// Orders what the lanes of `which` have done before what each of them does from here on. Lanes
    /// that have ended need not take part.
    pub(crate) fn synchronise(&mut self, which: u32) {
        if which == self.live {
            self.clocks[self.number as usize] = self.clock;
        } else {
            let pairs = self.pairs.get_or_insert_with(|| Box::new([[0; LANES]; LANES]));
            let mut known = [0; LANES];
            for lane in lanes(which) {
                known.iter_mut().zip(pairs[lane]).for_each(|(x, other)| *x = other.max(*x));
            }
            lanes(which).for_each(|lane| known[lane] = self.clock);
            lanes(which).for_each(|lane| pairs[lane] = known);
        }
        self.clock += 1;
    }

    /// Whether any lane has issued copies.
    pub(crate) fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// A lane's copies.
    pub(crate) fn copies(&mut self, lane: usize) -> &mut Copies {
        if self.copies.is_empty() {
            self.copies.resize_with(LANES, Copies::default);
        }
        &mut self.copies[lane]
    }

    /// The first instruction at which lanes are, and the lanes that are there.
    #[inline]
    pub(crate) fn next(&self) -> (u32, u32) {
        if let Some(at) = self.together {
            return (at, self.live);
        }
        let first = self.at.iter().copied().min().unwrap_or(0);
        let here = self.at.iter().enumerate().filter(|(_, at)| **at == first);
        (first, here.fold(0, |mask, (lane, _)| mask | 1 << lane))
    }

    /// Lets the named lanes continue at an instruction; the others stay where they are.
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

    /// An operand's values, which the lanes of `active` must have written. Values in other lanes
    /// mean nothing.
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
            let busy = self.begun.as_ref().is_some_and(|begun| begun.busy[r as usize] != 0);
            return Err(match busy {
                true => (Problem::RegisterInFlight { register }, lane),
                false => (Problem::Undefined { register }, lane),
            });
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
                let r = r as usize;
                if machine.kernel.registers[r].bits != 1 {
                    return (&self.registers[r], self.defined[r]);
                }
                *room = bits(self.predicates[r]);
                return (room, self.defined[r]);
            }
            Operand::Immediate(value) => *room = [value; LANES],
            Operand::Special(special) => {
                for (lane, value) in room.iter_mut().enumerate() {
                    *value = self.special(special, lane, &machine.position);
                }
            }
            Operand::Variable(v) => *room = [machine.variables[v as usize]; LANES],
            Operand::Sink => *room = [0; LANES],
        }
        (room, u32::MAX)
    }

    /// The lanes of `active` where a predicate holds.
    #[inline]
    pub(crate) fn holds(
        &self,
        operand: Operand,
        active: u32,
        machine: &Machine<'_>,
    ) -> Result<u32, Failure> {
        if let Operand::Register(r) = operand
            && machine.kernel.registers[r as usize].bits == 1
            && self.defined[r as usize] & active == active
        {
            return Ok(self.predicates[r as usize] & active);
        }
        let mut room = [0; LANES];
        Ok(mask(self.fetch(operand, active, &mut room, machine)?) & active)
    }

    /// Writes an operand in the lanes of `active`.
    #[inline]
    pub(crate) fn put(&mut self, d: Operand, active: u32, values: &Values, kernel: &Kernel) {
        let Operand::Register(r) = d else { return };
        let (r, bits) = (r as usize, kernel.registers[r as usize].bits);
        let mask_of_type = low(bits, u64::MAX);
        if bits == 1 {
            return self.put_mask(d, active, mask(&values.map(|x| x & 1)), kernel);
        }
        if let Some(begun) = &mut self.begun {
            begun.written[r] = begun.fences;
            if begun.busy[r] != 0 {
                begun.touched = Some(r as u32);
            }
        }
        let register = &mut self.registers[r];
        if active == u32::MAX {
            for (to, value) in register.iter_mut().zip(values) {
                *to = value & mask_of_type;
            }
        } else {
            for lane in lanes(active) {
                register[lane] = values[lane] & mask_of_type;
            }
        }
        self.defined[r] |= active;
    }

    /// A register's values, whoever uses it.
    pub(crate) fn raw(&mut self, register: u32) -> &mut Values {
        &mut self.registers[register as usize]
    }

    pub(crate) fn defined(&mut self, register: u32) -> &mut u32 {
        &mut self.defined[register as usize]
    }

    /// Writes 1 in the lanes of `yes` and 0 in the others.
    #[inline]
    pub(crate) fn put_mask(&mut self, d: Operand, active: u32, yes: u32, kernel: &Kernel) {
        let Operand::Register(r) = d else { return };
        if kernel.registers[r as usize].bits != 1 {
            return self.put(d, active, &bits(yes), kernel);
        }
        let predicate = &mut self.predicates[r as usize];
        *predicate = *predicate & !active | yes & active;
        self.defined[r as usize] |= active;
    }

    fn special(&self, special: Special, lane: usize, position: &GridPosition) -> u64 {
        let index = self.number * LANES as u32 + lane as u32;
        let bit = 1u64 << lane;
        match special {
            Special::Thread(axis) => position.thread(index)[axis as usize].into(),
            Special::Threads(axis) => position.threads[axis as usize].into(),
            Special::Block(axis) => position.block[axis as usize].into(),
            Special::Blocks(axis) => position.grid[axis as usize].into(),
            Special::Lane => lane as u64,
            Special::Warp => self.number.into(),
            Special::Warps => position.warps().into(),
            Special::LanesBelow => bit - 1,
            Special::LanesUpTo => 2 * bit - 1,
            Special::LanesAbove => low(32, !(2 * bit - 1)),
            Special::LanesFrom => low(32, !(bit - 1)),
            Special::ThisLane => bit,
            Special::Clock => self.clock.into(),
            Special::DynamicShared => u64::from(position.shared[0].next_multiple_of(16)),
            Special::SharedSize => position.shared[1].into(),
        }
    }
}
