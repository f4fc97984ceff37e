//! The instructions that access memory: loads, stores, atomic operations and asynchronous copies.

use super::{Machine, Result, by_parts};
use crate::fault::Problem;
use crate::float;
use crate::instruction::{Address, AtomicOp, Binary, Mode, Op, Operands, Space, Type};
use crate::integer;
use crate::memory::{Agent, Stamp};
use crate::warp::{LANES, Values, Warp, lanes};

/// Where shared memory, local memory and the parameters begin in the generic address space.
const SHARED: u64 = 0x0100_0000_0000;
const LOCAL: u64 = 0x0200_0000_0000;
const PARAMETERS: u64 = 0x0300_0000_0000;
/// The size of each of these windows.
const WINDOW: u64 = 1 << 32;

/// A lane of the warp as an agent that accesses memory. This is a macro because a function would
/// borrow the whole machine.
macro_rules! agent {
    ($machine:expr, $warp:expr, $lane:expr) => {
        Agent {
            stamp: Stamp { block: $machine.block, warp: $warp.number, clock: $warp.clock },
            known: &$warp.clocks,
            lane: $lane as u8,
            several: false,
            pairs: $warp.pairs.as_deref(),
            first_block: $machine.first_block,
            fenced: None,
        }
    };
}

pub(super) use agent;

impl Machine<'_> {
    pub(super) fn memory(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Result<()> {
        match *op {
            Op::Load { space, ty, ref d, from } => self.load(warp, active, space, ty, d, from),
            Op::Store { space, ty, to, ref a } => self.store(warp, active, space, ty, to, a),
            Op::Atomic { space, op, ty, d, at, a, b } => {
                let addresses = self.addresses(warp, at, active)?;
                let (mut room, mut other_room) = ([0; LANES], [0; LANES]);
                let a = *warp.fetch(a, active, &mut room, self)?;
                let b = *warp.fetch(b, active, &mut other_room, self)?;
                let mut old = [0; LANES];
                for lane in lanes(active) {
                    let (a, b) = (a[lane], b[lane]);
                    let change = |old| atomic(op, ty, old, a, b);
                    old[lane] =
                        self.update(warp, space, addresses[lane], ty.bytes(), lane, change)?;
                }
                warp.put(d, active, &old, self.kernel);
                Ok(())
            }
            Op::CopyAsync { .. } | Op::CommitCopies | Op::WaitCopies { .. } => {
                self.copies(warp, op, active)
            }
            _ => unreachable!("touches no memory"),
        }
    }

    /// The addresses at which the lanes of `active` access memory.
    #[inline]
    pub(super) fn addresses(&self, warp: &Warp, at: Address, active: u32) -> Result<Values> {
        let mut room = [0; LANES];
        let offset = at.offset as u64;
        Ok(warp.fetch(at.base, active, &mut room, self)?.map(|x| x.wrapping_add(offset)))
    }

    /// Reads memory for one lane.
    #[inline]
    pub(super) fn read(
        &mut self,
        warp: &mut Warp,
        space: Space,
        address: u64,
        out: &mut [u8],
        lane: usize,
    ) -> Result<()> {
        let agent = agent!(self, warp, lane);
        let result = match place(space, address) {
            (Space::Shared, address) => self.shared.read(address, out, &agent),
            (Space::Local, address) => warp.local.read(lane, address, out),
            (Space::Parameter, address) => {
                let found = usize::try_from(address)
                    .ok()
                    .and_then(|start| self.parameters.get(start..)?.get(..out.len()));
                let bytes = out.len();
                let missing = Problem::OutOfBounds { space: "parameter", address, bytes };
                found.map(|found| out.copy_from_slice(found)).ok_or(missing)
            }
            (_, address) => {
                let region = self.global.region(address, out.len());
                region.and_then(|region| region.read(address, out, &agent))
            }
        };
        result.map_err(|problem| (problem, lane))
    }

    /// Writes memory for one lane.
    #[inline]
    pub(super) fn write(
        &mut self,
        warp: &mut Warp,
        space: Space,
        address: u64,
        data: &[u8],
        lane: usize,
    ) -> Result<()> {
        self.write_for(warp, space, address, data, lane, false)
    }

    /// Writes memory for one lane, or for `several` lanes that write the same value.
    #[inline]
    pub(super) fn write_for(
        &mut self,
        warp: &mut Warp,
        space: Space,
        address: u64,
        data: &[u8],
        lane: usize,
        several: bool,
    ) -> Result<()> {
        let agent = Agent { several, ..agent!(self, warp, lane) };
        let result = match place(space, address) {
            (Space::Shared, address) => self.shared.write(address, data, &agent),
            (Space::Local, address) => warp.local.write(lane, address, data),
            (_, address) => {
                let region = self.global.region(address, data.len());
                region.and_then(|region| region.write(address, data, &agent))
            }
        };
        result.map_err(|problem| (problem, lane))
    }

    pub(super) fn update(
        &mut self,
        warp: &mut Warp,
        space: Space,
        address: u64,
        bytes: usize,
        lane: usize,
        change: impl FnOnce(u64) -> u64,
    ) -> Result<u64> {
        let agent = agent!(self, warp, lane);
        let result = match place(space, address) {
            (Space::Shared, address) => self.shared.update(address, bytes, &agent, change),
            (Space::Local, address) => warp.local.update(lane, address, bytes, change),
            (_, address) => {
                let region = self.global.region(address, bytes);
                region.and_then(|region| region.update(address, bytes, &agent, change))
            }
        };
        result.map_err(|problem| (problem, lane))
    }

    fn load(
        &mut self,
        warp: &mut Warp,
        active: u32,
        space: Space,
        ty: Type,
        d: &Operands,
        from: Address,
    ) -> Result<()> {
        match ty.bytes() * d.len() {
            ..=16 => self.load_up_to::<16>(warp, active, space, ty, d, from),
            _ => self.load_up_to::<64>(warp, active, space, ty, d, from),
        }
    }

    fn load_up_to<const MOST: usize>(
        &mut self,
        warp: &mut Warp,
        active: u32,
        space: Space,
        ty: Type,
        d: &Operands,
        from: Address,
    ) -> Result<()> {
        let size = ty.bytes();
        let bytes = size * d.len();
        let addresses = self.addresses(warp, from, active)?;
        let mut data = [[0; MOST]; LANES];
        for lane in lanes(active) {
            self.read(warp, space, addresses[lane], &mut data[lane][..bytes], lane)?;
        }
        for (i, d) in d.iter().enumerate() {
            let data = |lane: usize| &data[lane];
            let mut values = match size {
                1 => parts::<1, MOST>(data, i),
                2 => parts::<2, MOST>(data, i),
                4 => parts::<4, MOST>(data, i),
                _ => parts::<8, MOST>(data, i),
            };
            // In a wider register a signed number is sign-extended.
            if let Type::S(_) = ty {
                let unused = 64 - ty.bits();
                values = values.map(|value| ((value << unused) as i64 >> unused) as u64);
            }
            warp.put(*d, active, &values, self.kernel);
        }
        self.traffic(active, space, &addresses, bytes);
        Ok(())
    }
}

/// The `i`-th element of each lane's data; elements have `SIZE` bytes.
fn parts<'a, const SIZE: usize, const MOST: usize>(
    data: impl Fn(usize) -> &'a [u8; MOST],
    i: usize,
) -> Values {
    let mut values = [0; LANES];
    for (lane, value) in values.iter_mut().enumerate() {
        let mut wide = [0; 8];
        wide[..SIZE].copy_from_slice(&data(lane)[i * SIZE..][..SIZE]);
        *value = u64::from_le_bytes(wide);
    }
    values
}

/// The state space in which an address lies. A generic address determines it by its value.
#[inline]
pub(super) fn place(space: Space, address: u64) -> (Space, u64) {
    match space {
        Space::Generic if address.wrapping_sub(SHARED) < WINDOW => {
            (Space::Shared, address - SHARED)
        }
        Space::Generic if address.wrapping_sub(LOCAL) < WINDOW => (Space::Local, address - LOCAL),
        Space::Generic if address.wrapping_sub(PARAMETERS) < WINDOW => {
            (Space::Parameter, address - PARAMETERS)
        }
        Space::Shared | Space::Local => (space, integer::low(32, address)),
        space => (space, address),
    }
}

pub(super) fn base(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED,
        Space::Local => LOCAL,
        Space::Parameter => PARAMETERS,
        _ => 0,
    }
}

/// The value that an atomic operation leaves in memory.
pub(super) fn atomic(op: AtomicOp, ty: Type, old: u64, a: u64, b: u64) -> u64 {
    let mode = Mode::default();
    let plain = |op: Binary| {
        by_parts(ty, [old, a, 0], |ty, [x, y, _]| match ty.is_float() {
            true => float::binary(op, ty, mode, x, y),
            false => integer::binary(op, ty, mode, x, y),
        })
    };
    match op {
        AtomicOp::Add => plain(Binary::Add),
        AtomicOp::Min => plain(Binary::Min),
        AtomicOp::Max => plain(Binary::Max),
        AtomicOp::And => old & a,
        AtomicOp::Or => old | a,
        AtomicOp::Xor => old ^ a,
        AtomicOp::Exchange => a,
        AtomicOp::CompareAndSwap => {
            if old == integer::low(ty.bits(), a) {
                b
            } else {
                old
            }
        }
        AtomicOp::Increment => {
            if old >= integer::low(32, a) {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Decrement => {
            if old == 0 || old > integer::low(32, a) {
                a
            } else {
                old - 1
            }
        }
    }
}
