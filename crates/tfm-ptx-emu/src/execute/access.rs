//! Instructions that touch memory: loads, stores, atomic operations and asynchronous copies.

use super::{Machine, Result, by_parts, lanes};
use crate::fault::Problem;
use crate::float;
use crate::instruction::{Address, AtomicOp, Binary, Mode, Op, Operands, Space, Type};
use crate::integer;
use crate::memory::{Agent, Region, Stamp};
use crate::warp::{Copy, LANES, Warp};

/// Where shared and local memory begin in the generic address space.
const SHARED: u64 = 0x0100_0000_0000;
const LOCAL: u64 = 0x0200_0000_0000;
/// The size of such a window.
const WINDOW: u64 = 1 << 32;

impl Machine<'_> {
    pub(super) fn memory(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Result<()> {
        match *op {
            Op::Load { space, ty, ref d, from } => self.load(warp, active, space, ty, d, from),
            Op::Store { space, ty, to, ref a } => self.store(warp, active, space, ty, to, a),
            Op::Atomic { space, op, ty, d, at, a, b } => {
                for lane in lanes(active) {
                    let address = self.address(warp, at, lane)?;
                    let (a, b) = (self.read(warp, a, lane)?, self.read(warp, b, lane)?);
                    let old = self.with(
                        warp,
                        space,
                        address,
                        ty.bytes(),
                        lane,
                        |region, address, agent| {
                            region
                                .update(address, ty.bytes(), agent, |old| atomic(op, ty, old, a, b))
                        },
                    )?;
                    warp.write(d, lane, old, self.kernel);
                }
                Ok(())
            }
            Op::CopyAsync { bytes, to, from, size } => {
                for lane in lanes(active) {
                    let (to, from) =
                        (self.address(warp, to, lane)?, self.address(warp, from, lane)?);
                    let size = size.map(|size| self.read(warp, size, lane)).transpose()?;
                    let size = size.map_or(bytes, |size| integer::low(32, size) as usize);
                    if size > bytes {
                        let problem =
                            format!("a copy of {bytes} bytes takes {size} from its source");
                        return Err((Problem::Launch(problem), lane));
                    }
                    self.with(warp, Space::Shared, to, bytes, lane, |region, to, agent| {
                        region.begin_copy(to, bytes, agent)
                    })?;
                    let copy = Copy { to: integer::low(32, to), from, size, bytes };
                    if !self.lazy {
                        let data = self.source(warp, &copy, lane)?;
                        self.shared
                            .early(copy.to, &data[..bytes])
                            .map_err(|problem| (problem, lane))?;
                    }
                    warp.copies[lane].open.push(copy);
                }
                Ok(())
            }
            Op::CommitCopies => {
                for lane in lanes(active) {
                    let copies = &mut warp.copies[lane];
                    let group = std::mem::take(&mut copies.open);
                    copies.groups.push_back(group);
                }
                Ok(())
            }
            Op::WaitCopies { pending, all } => {
                for lane in lanes(active) {
                    loop {
                        let copies = &mut warp.copies[lane];
                        let group = if copies.groups.len() > pending {
                            copies.groups.pop_front().expect("there are more than none")
                        } else if all && !copies.open.is_empty() {
                            std::mem::take(&mut copies.open)
                        } else {
                            break;
                        };
                        for copy in group {
                            let data = self.source(warp, &copy, lane)?;
                            let data = &data[..copy.bytes];
                            self.with(
                                warp,
                                Space::Shared,
                                copy.to,
                                copy.bytes,
                                lane,
                                |region, to, agent| region.end_copy(to, data, agent),
                            )?;
                        }
                    }
                }
                Ok(())
            }
            _ => unreachable!("touches no memory"),
        }
    }

    pub(super) fn address(&self, warp: &Warp, address: Address, lane: usize) -> Result<u64> {
        Ok(self.read(warp, address.base, lane)?.wrapping_add(address.offset as u64))
    }

    /// Calls `f` with the memory that an address lies in.
    pub(super) fn with<T>(
        &mut self,
        warp: &mut Warp,
        space: Space,
        address: u64,
        bytes: usize,
        lane: usize,
        f: impl FnOnce(&mut Region, u64, &Agent<'_>) -> std::result::Result<T, Problem>,
    ) -> Result<T> {
        let (space, address) = match space {
            Space::Generic if address.wrapping_sub(SHARED) < WINDOW => {
                (Space::Shared, address - SHARED)
            }
            Space::Generic if address.wrapping_sub(LOCAL) < WINDOW => {
                (Space::Local, address - LOCAL)
            }
            Space::Shared | Space::Local => (space, integer::low(32, address)),
            space => (space, address),
        };
        let clock = warp.clocks[warp.number as usize];
        let stamp = Stamp { block: self.block, warp: warp.number, clock };
        let agent = Agent { stamp, known: &warp.clocks, first_block: self.first_block };
        let result = match space {
            Space::Shared => f(self.shared, address, &agent),
            Space::Local => {
                // One thread's own: nothing races.
                let agent = Agent { stamp, known: &[], first_block: u32::MAX };
                let local = || Region::new("local", 0, self.kernel.local);
                f(warp.local[lane].get_or_insert_with(local), address, &agent)
            }
            _ => self.global.region(address, bytes).and_then(|region| f(region, address, &agent)),
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
        let size = ty.bytes();
        let bytes = size * d.len();
        for lane in lanes(active) {
            let address = self.address(warp, from, lane)?;
            let mut data = [0; 64];
            let data = &mut data[..bytes];
            if space == Space::Parameter {
                let found = usize::try_from(address)
                    .ok()
                    .and_then(|start| self.parameters.get(start..)?.get(..bytes));
                let found = found
                    .ok_or((Problem::OutOfBounds { space: "parameter", address, bytes }, lane))?;
                data.copy_from_slice(found);
            } else {
                self.with(warp, space, address, bytes, lane, |region, address, agent| {
                    region.read(address, data, agent)
                })?;
            }
            for (d, part) in d.iter().zip(data.chunks(size)) {
                let mut value = [0; 8];
                value[..size].copy_from_slice(part);
                let value = u64::from_le_bytes(value);
                // A wider register holds the sign of a signed number.
                let value =
                    if let Type::S(_) = ty { integer::value(ty, value) as u64 } else { value };
                warp.write(*d, lane, value, self.kernel);
            }
        }
        self.traffic(warp, active, space, from, bytes)
    }

    fn store(
        &mut self,
        warp: &mut Warp,
        active: u32,
        space: Space,
        ty: Type,
        to: Address,
        a: &Operands,
    ) -> Result<()> {
        let size = ty.bytes();
        let bytes = size * a.len();
        for lane in lanes(active) {
            let address = self.address(warp, to, lane)?;
            let mut data = [0; 64];
            for (a, part) in a.iter().zip(data.chunks_mut(size)) {
                part.copy_from_slice(&self.read(warp, *a, lane)?.to_le_bytes()[..size]);
            }
            self.with(warp, space, address, bytes, lane, |region, address, agent| {
                region.write(address, &data[..bytes], agent)
            })?;
        }
        self.traffic(warp, active, space, to, bytes)
    }

    /// The bytes of an asynchronous copy, zeros behind them.
    fn source(&mut self, warp: &mut Warp, copy: &Copy, lane: usize) -> Result<[u8; 16]> {
        let mut data = [0; 16];
        let (from, size) = (copy.from, copy.size);
        if size > 0 {
            // Aligned as the whole copy is, whatever is taken of it.
            if from % copy.bytes as u64 != 0 {
                return Err((
                    Problem::Misaligned { space: "global", address: from, bytes: copy.bytes },
                    lane,
                ));
            }
            for (i, byte) in data[..size].iter_mut().enumerate() {
                let address = from + i as u64;
                self.with(warp, Space::Global, address, 1, lane, |region, address, agent| {
                    region.read(address, std::slice::from_mut(byte), agent)
                })?;
            }
        }
        Ok(data)
    }

    /// Counts what an access of global or shared memory costs.
    fn traffic(
        &mut self,
        warp: &Warp,
        active: u32,
        space: Space,
        at: Address,
        bytes: usize,
    ) -> Result<()> {
        match space {
            Space::Global => {
                let mut sectors = [0u64; 2 * LANES];
                let mut count = 0;
                for lane in lanes(active) {
                    let address = self.address(warp, at, lane)?;
                    for sector in [address / 32, (address + bytes as u64 - 1) / 32] {
                        if !sectors[..count].contains(&sector) {
                            sectors[count] = sector;
                            count += 1;
                        }
                    }
                }
                self.counters.global_sectors += count as u64;
                self.counters.global_bytes += u64::from(active.count_ones()) * bytes as u64;
                Ok(())
            }
            Space::Shared => self.banks(warp, at, bytes, LANES, active),
            _ => Ok(()),
        }
    }

    /// Counts the passes of an access of shared memory by the first `count` lanes: lanes are served together up to 128
    /// bytes, and two different words of one bank need two passes.
    pub(super) fn banks(
        &mut self,
        warp: &Warp,
        at: Address,
        bytes: usize,
        count: usize,
        active: u32,
    ) -> Result<()> {
        let together = (128 / bytes.max(4)).max(1);
        for start in (0..count).step_by(together) {
            let mut words = [[u64::MAX; LANES]; 32];
            let mut used = [0; 32];
            for lane in
                (start..(start + together).min(count)).filter(|lane| active >> lane & 1 != 0)
            {
                let address = integer::low(32, self.address(warp, at, lane)?);
                for word in address / 4..(address + bytes as u64).div_ceil(4) {
                    let bank = (word % 32) as usize;
                    if !words[bank][..used[bank]].contains(&word) && used[bank] < LANES {
                        words[bank][used[bank]] = word;
                        used[bank] += 1;
                    }
                }
            }
            let passes = used.into_iter().max().unwrap_or(0);
            self.counters.shared_passes += passes as u64;
            self.counters.bank_conflicts += passes.saturating_sub(1) as u64;
        }
        Ok(())
    }
}

pub(super) fn base(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED,
        Space::Local => LOCAL,
        _ => 0,
    }
}

/// What an atomic operation leaves.
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
