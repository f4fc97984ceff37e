//! Memory that knows who wrote and read it.
//!
//! For each word of 4 bytes it is kept which bytes were written, and what is needed to find an access that is not
//! ordered after those it conflicts with.

mod local;
mod past;

use crate::fault::Problem;
pub(crate) use local::Local;
use past::{BlockPast, Conflict, GridPast, Past};

/// A warp, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// The block, counted over all launches from 1.
    pub(crate) block: u32,
    pub(crate) warp: u32,
    /// The warp's own clock.
    pub(crate) clock: u32,
}

/// Who accesses, and what it knows to have happened.
pub(crate) struct Agent<'a> {
    pub(crate) stamp: Stamp,
    /// The clocks of the block's warps up to which their accesses are ordered before this one.
    pub(crate) known: &'a [u32],
    /// Blocks before this one belong to earlier launches, which have ended.
    pub(crate) first_block: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Atomic,
}

impl Access {
    fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Atomic => "atomic",
        }
    }
}

/// A range of memory.
#[derive(Debug, Clone)]
pub(crate) struct Region<P> {
    space: &'static str,
    /// The address of the first byte, in messages.
    start: u64,
    bytes: Vec<u8>,
    /// For each word of 4 bytes, which of them were ever written.
    written: Vec<u8>,
    past: P,
}

impl<P: Past> Region<P> {
    /// Memory that nobody has written, for blocks of so many warps.
    pub(crate) fn new(space: &'static str, start: u64, len: usize, warps: usize) -> Self {
        let words = len.div_ceil(4);
        let (bytes, written) = (vec![0; len], vec![0; words]);
        Region { space, start, bytes, written, past: P::new(words, warps) }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Writes from outside of all kernels.
    pub(crate) fn fill(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        for (word, mask) in masks(offset, bytes.len()) {
            self.written[word] |= mask;
        }
    }

    /// What is needed to copy a range as it is, with what was never written in it.
    pub(crate) fn state(&self, offset: usize, len: usize) -> Vec<(u8, bool)> {
        let written = |i: usize| self.written[i / 4] >> (i % 4) & 1 != 0;
        (offset..offset + len).map(|i| (self.bytes[i], written(i))).collect()
    }

    /// Writes what [`Region::state`] took.
    pub(crate) fn set_state(&mut self, offset: usize, state: &[(u8, bool)]) {
        for (i, (byte, written)) in (offset..).zip(state) {
            self.bytes[i] = *byte;
            let (word, bit) = (&mut self.written[i / 4], 1 << (i % 4));
            *word = if *written { *word | bit } else { *word & !bit };
        }
    }

    /// Reads from outside of all kernels. An error at what was never written.
    pub(crate) fn content(&self, offset: usize, len: usize) -> Result<&[u8], Problem> {
        for (word, mask) in masks(offset, len) {
            if self.written[word] & mask != mask {
                return Err(self.uninitialised(word));
            }
        }
        Ok(&self.bytes[offset..offset + len])
    }

    fn uninitialised(&self, word: usize) -> Problem {
        Problem::Uninitialised { space: self.space, address: self.start + 4 * word as u64 }
    }

    /// The offset of an access, which must lie inside and be aligned.
    #[inline]
    fn offset(&self, address: u64, bytes: usize) -> Result<usize, Problem> {
        let offset = self.inside(address, bytes)?;
        // The number is a power of 2.
        if address & (bytes.max(1) as u64 - 1) != 0 {
            return Err(Problem::Misaligned { space: self.space, address, bytes });
        }
        Ok(offset)
    }

    #[inline]
    fn inside(&self, address: u64, bytes: usize) -> Result<usize, Problem> {
        let offset = address.wrapping_sub(self.start);
        if offset > self.bytes.len() as u64 || bytes as u64 > self.bytes.len() as u64 - offset {
            return Err(Problem::OutOfBounds { space: self.space, address, bytes });
        }
        Ok(offset as usize)
    }

    /// Reads up to 16 bytes.
    #[inline]
    pub(crate) fn read(
        &mut self,
        address: u64,
        out: &mut [u8],
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.offset(address, out.len())?;
        self.read_at(offset, out, agent)
    }

    /// Reads any bytes, aligned or not.
    pub(crate) fn read_bytes(
        &mut self,
        address: u64,
        out: &mut [u8],
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.inside(address, out.len())?;
        self.read_at(offset, out, agent)
    }

    #[inline]
    fn read_at(&mut self, offset: usize, out: &mut [u8], agent: &Agent<'_>) -> Result<(), Problem> {
        for (word, mask) in masks(offset, out.len()) {
            self.note(word, mask, Access::Read, agent)?;
            if self.written[word] & mask != mask {
                return Err(self.uninitialised(word));
            }
        }
        let bytes = &self.bytes[offset..offset + out.len()];
        // Of a known length the copy is one move.
        match out.len() {
            4 => out.copy_from_slice(&bytes[..4]),
            16 => out.copy_from_slice(&bytes[..16]),
            _ => out.copy_from_slice(bytes),
        }
        Ok(())
    }

    /// Writes up to 16 bytes.
    #[inline]
    pub(crate) fn write(
        &mut self,
        address: u64,
        bytes: &[u8],
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.offset(address, bytes.len())?;
        self.mark(offset, bytes.len(), Access::Write, agent)?;
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Replaces a value by what `change` makes of it; the old value.
    pub(crate) fn update(
        &mut self,
        address: u64,
        len: usize,
        agent: &Agent<'_>,
        change: impl FnOnce(u64) -> u64,
    ) -> Result<u64, Problem> {
        let offset = self.offset(address, len)?;
        for (word, mask) in masks(offset, len) {
            if self.written[word] & mask != mask {
                return Err(self.uninitialised(word));
            }
        }
        self.mark(offset, len, Access::Atomic, agent)?;
        let mut value = [0; 8];
        value[..len].copy_from_slice(&self.bytes[offset..offset + len]);
        let old = u64::from_le_bytes(value);
        self.bytes[offset..offset + len].copy_from_slice(&change(old).to_le_bytes()[..len]);
        Ok(old)
    }

    /// Checks and notes a write or an atomic operation.
    #[inline]
    fn mark(
        &mut self,
        offset: usize,
        len: usize,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        for (word, mask) in masks(offset, len) {
            self.note(word, mask, access, agent)?;
            self.written[word] |= mask;
        }
        Ok(())
    }

    #[inline]
    fn note(
        &mut self,
        word: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let noted = self.past.note(word, mask, access, agent);
        noted.map_err(|conflict| self.problem(word, access, conflict, agent))
    }

    #[cold]
    fn problem(
        &self,
        word: usize,
        access: Access,
        conflict: Conflict,
        agent: &Agent<'_>,
    ) -> Problem {
        let address = self.start + 4 * word as u64;
        match conflict {
            Conflict::InFlight => Problem::InFlight { address },
            Conflict::Race { other, by } => Problem::Race {
                space: self.space,
                address,
                access: access.name(),
                other: other.name(),
                warp: by.warp,
                block: by.block.saturating_sub(agent.first_block),
            },
        }
    }
}

/// Global memory: every block's.
pub(crate) type GridRegion = Region<GridPast>;

/// Shared memory: a block's own.
pub(crate) type Shared = Region<BlockPast>;

impl Shared {
    /// An asynchronous copy will write here: no access until it has.
    pub(crate) fn begin_copy(
        &mut self,
        address: u64,
        len: usize,
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.offset(address, len)?;
        for (word, mask) in masks(offset, len) {
            let begun = self.past.begin(word, mask, agent);
            begun.map_err(|conflict| self.problem(word, Access::Write, conflict, agent))?;
        }
        Ok(())
    }

    /// The copy has been waited for.
    pub(crate) fn end_copy(
        &mut self,
        address: u64,
        bytes: &[u8],
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.offset(address, bytes.len())?;
        for (word, mask) in masks(offset, bytes.len()) {
            self.past.end(word, mask);
        }
        self.write(address, bytes, agent)
    }

    /// Puts a copy's bytes where they belong before it is waited for: what an eager machine does.
    pub(crate) fn early(&mut self, address: u64, bytes: &[u8]) -> Result<(), Problem> {
        let offset = self.offset(address, bytes.len())?;
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// The words of a range of bytes, each with its bytes' bits.
#[inline]
fn masks(offset: usize, len: usize) -> impl Iterator<Item = (usize, u8)> {
    let end = offset + len;
    (offset / 4..end.div_ceil(4)).map(move |word| {
        let from = offset.max(4 * word) - 4 * word;
        let to = end.min(4 * word + 4) - 4 * word;
        (word, (((1u16 << to) - 1) & !((1u16 << from) - 1)) as u8)
    })
}

/// Where the first allocation begins, and the bytes between two of them.
const FIRST: u64 = 0x7000_0000_0000;
const GAP: u64 = 4096;
/// The alignment of allocations.
const ALIGN: u64 = 256;

/// Global memory: allocations with gaps between them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Global {
    /// By address.
    regions: Vec<GridRegion>,
    /// The one that was found last.
    recent: usize,
    end: u64,
}

impl Global {
    pub(crate) fn allocate(&mut self, len: usize) -> u64 {
        let start = (self.end.max(FIRST) + GAP).next_multiple_of(ALIGN);
        self.end = start + len as u64;
        self.regions.push(Region::new("global", start, len, 0));
        start
    }

    /// Whether there was such an allocation.
    pub(crate) fn free(&mut self, address: u64) -> bool {
        let found = self.regions.binary_search_by_key(&address, Region::start);
        found.map(|index| self.regions.remove(index)).is_ok()
    }

    /// The allocation with `address` in it.
    #[inline]
    pub(crate) fn region(
        &mut self,
        address: u64,
        bytes: usize,
    ) -> Result<&mut GridRegion, Problem> {
        let has =
            |region: &GridRegion| address.wrapping_sub(region.start()) < region.len().max(1) as u64;
        if !self.regions.get(self.recent).is_some_and(has) {
            let after = self.regions.partition_point(|region| region.start() <= address);
            self.recent = after.saturating_sub(1);
        }
        let found = self.regions.get_mut(self.recent).filter(|region| has(region));
        found.ok_or(Problem::OutOfBounds { space: "global", address, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(warp: u32, clock: u32, known: &[u32]) -> Agent<'_> {
        Agent { stamp: Stamp { block: 1, warp, clock }, known, first_block: 1 }
    }

    #[test]
    fn unordered_accesses_are_races_and_ordered_ones_are_not() {
        let mut region = Shared::new("shared", 0, 64, 2);
        let mut out = [0; 4];
        region.write(0, &[1; 4], &agent(0, 1, &[1, 0])).unwrap();
        // Another byte of the same word is another place.
        region.write(4, &[1; 2], &agent(0, 1, &[1, 0])).unwrap();
        region.write(6, &[1; 2], &agent(1, 1, &[0, 1])).unwrap();
        // The other warp knows nothing of the write; then it does.
        let race = region.read(0, &mut out, &agent(1, 1, &[0, 1]));
        assert!(matches!(race, Err(Problem::Race { .. })), "{race:?}");
        region.read(0, &mut out, &agent(1, 2, &[1, 2])).unwrap();
        // And the writer does not know of that read.
        let race = region.write(0, &[2; 4], &agent(0, 2, &[2, 1]));
        assert!(matches!(race, Err(Problem::Race { .. })), "{race:?}");
        region.write(0, &[2; 4], &agent(0, 3, &[3, 2])).unwrap();
        // Atomic operations do not race with one another, but with a write.
        region.fill(8, &[0; 4]);
        region.update(8, 4, &agent(0, 3, &[3, 2]), |x| x + 1).unwrap();
        region.update(8, 4, &agent(1, 3, &[1, 3]), |x| x + 1).unwrap();
        let race = region.write(8, &[0; 4], &agent(0, 3, &[3, 2]));
        assert!(matches!(race, Err(Problem::Race { .. })), "{race:?}");
    }

    #[test]
    fn wild_accesses_are_found() {
        let mut global = Global::default();
        let (a, b) = (global.allocate(10), global.allocate(16));
        assert!(b - a > 10 + 1000);
        let known = [1];
        let me = agent(0, 1, &known);
        let mut out = [0; 4];
        assert!(matches!(global.region(a + 10, 4), Err(Problem::OutOfBounds { .. })));
        let region = global.region(a + 8, 4).unwrap();
        assert!(matches!(region.read(a + 8, &mut out, &me), Err(Problem::OutOfBounds { .. })));
        assert!(matches!(region.read(a + 2, &mut out, &me), Err(Problem::Misaligned { .. })));
        assert!(matches!(region.read(a, &mut out, &me), Err(Problem::Uninitialised { .. })));
        assert!(region.content(0, 1).is_err());
        region.fill(0, &[7; 10]);
        region.read(a + 4, &mut out, &me).unwrap();
        assert_eq!((out, region.content(0, 10).unwrap()), ([7; 4], &[7; 10][..]));
        assert!(global.free(b) && !global.free(b));
    }
}
