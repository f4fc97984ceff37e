//! Memory that knows who wrote and read it.
//!
//! For each word of 4 bytes it is kept which bytes were written, by whom last, and who has read it since. An access
//! that is not ordered after those it conflicts with is a race: the epochs of FastTrack (Flanagan and
//! Freund, PLDI 2009), with a warp as the thread.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::fault::Problem;

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

impl Agent<'_> {
    fn is_after(&self, stamp: Stamp) -> bool {
        stamp.block < self.first_block
            || (stamp.block == self.stamp.block && stamp.clock <= self.known[stamp.warp as usize])
    }
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

/// A word's past. Masks have a bit a byte.
#[derive(Debug, Clone, Default)]
struct Word {
    written: u8,
    write_mask: u8,
    read_mask: u8,
    write_was_atomic: bool,
    in_flight: u8,
    write: Stamp,
    reads: SmallVec<[Stamp; 1]>,
}

/// A range of memory.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    space: &'static str,
    /// The address of the first byte, in messages.
    start: u64,
    bytes: Vec<u8>,
    words: Vec<Word>,
}

impl Region {
    /// Memory that nobody has written.
    pub(crate) fn new(space: &'static str, start: u64, len: usize) -> Self {
        let words = vec![Word::default(); len.div_ceil(4)];
        Region { space, start, bytes: vec![0; len], words }
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
            self.words[word].written |= mask;
        }
    }

    /// What is needed to copy a range as it is, with what was never written in it.
    pub(crate) fn state(&self, offset: usize, len: usize) -> Vec<(u8, bool)> {
        let written = |i: usize| self.words[i / 4].written >> (i % 4) & 1 != 0;
        (offset..offset + len).map(|i| (self.bytes[i], written(i))).collect()
    }

    /// Writes what [`Region::state`] took.
    pub(crate) fn set_state(&mut self, offset: usize, state: &[(u8, bool)]) {
        for (i, (byte, written)) in (offset..).zip(state) {
            self.bytes[i] = *byte;
            let (word, bit) = (&mut self.words[i / 4], 1 << (i % 4));
            word.written = if *written { word.written | bit } else { word.written & !bit };
        }
    }

    /// Reads from outside of all kernels. An error at what was never written.
    pub(crate) fn content(&self, offset: usize, len: usize) -> Result<&[u8], Problem> {
        for (word, mask) in masks(offset, len) {
            if self.words[word].written & mask != mask {
                return Err(self.uninitialised(word));
            }
        }
        Ok(&self.bytes[offset..offset + len])
    }

    fn uninitialised(&self, word: usize) -> Problem {
        Problem::Uninitialised { space: self.space, address: self.start + 4 * word as u64 }
    }

    /// The offset of an access, which must lie inside and be aligned.
    fn offset(&self, address: u64, bytes: usize) -> Result<usize, Problem> {
        let offset = address.wrapping_sub(self.start);
        if offset > self.bytes.len() as u64 || bytes as u64 > self.bytes.len() as u64 - offset {
            return Err(Problem::OutOfBounds { space: self.space, address, bytes });
        }
        if !address.is_multiple_of(bytes.max(1) as u64) {
            return Err(Problem::Misaligned { space: self.space, address, bytes });
        }
        Ok(offset as usize)
    }

    /// Reads up to 16 bytes.
    pub(crate) fn read(
        &mut self,
        address: u64,
        out: &mut [u8],
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.offset(address, out.len())?;
        for (index, mask) in masks(offset, out.len()) {
            self.check(index, mask, Access::Read, agent)?;
            let word = &mut self.words[index];
            if word.written & mask != mask {
                return Err(self.uninitialised(index));
            }
            word.read_mask |= mask;
            remember(&mut word.reads, agent);
        }
        out.copy_from_slice(&self.bytes[offset..offset + out.len()]);
        Ok(())
    }

    /// Writes up to 16 bytes.
    pub(crate) fn write(
        &mut self,
        address: u64,
        bytes: &[u8],
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.mark(address, bytes.len(), Access::Write, agent)?;
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
            if self.words[word].written & mask != mask {
                return Err(self.uninitialised(word));
            }
        }
        self.mark(address, len, Access::Atomic, agent)?;
        let mut value = [0; 8];
        value[..len].copy_from_slice(&self.bytes[offset..offset + len]);
        let old = u64::from_le_bytes(value);
        self.bytes[offset..offset + len].copy_from_slice(&change(old).to_le_bytes()[..len]);
        Ok(old)
    }

    /// Checks and notes a write or an atomic operation; the offset.
    fn mark(
        &mut self,
        address: u64,
        len: usize,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<usize, Problem> {
        let offset = self.offset(address, len)?;
        for (index, mask) in masks(offset, len) {
            self.check(index, mask, access, agent)?;
            let word = &mut self.words[index];
            // Of other bytes of the word the last writer is kept only where it is the same one.
            word.write_mask = if word.write == agent.stamp { word.write_mask | mask } else { mask };
            word.write = agent.stamp;
            word.write_was_atomic = access == Access::Atomic;
            word.written |= mask;
            word.read_mask &= !mask;
            if word.read_mask == 0 {
                word.reads.clear();
            }
        }
        Ok(offset)
    }

    fn check(
        &self,
        index: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let word = &self.words[index];
        let address = self.start + 4 * index as u64;
        if word.in_flight & mask != 0 {
            return Err(Problem::InFlight { address });
        }
        let race = |other: Access, stamp: Stamp| Problem::Race {
            space: self.space,
            address,
            access: access.name(),
            other: other.name(),
            warp: stamp.warp,
            block: stamp.block.saturating_sub(agent.first_block),
        };
        let both_atomic = access == Access::Atomic && word.write_was_atomic;
        if word.write_mask & mask != 0 && !both_atomic && !agent.is_after(word.write) {
            let other = if word.write_was_atomic { Access::Atomic } else { Access::Write };
            return Err(race(other, word.write));
        }
        if access != Access::Read && word.read_mask & mask != 0 {
            let unordered = word.reads.iter().find(|stamp| !agent.is_after(**stamp));
            if let Some(stamp) = unordered {
                return Err(race(Access::Read, *stamp));
            }
        }
        Ok(())
    }

    /// An asynchronous copy will write here: no access until it has.
    pub(crate) fn begin_copy(
        &mut self,
        address: u64,
        len: usize,
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.offset(address, len)?;
        for (index, mask) in masks(offset, len) {
            self.check(index, mask, Access::Write, agent)?;
        }
        for (index, mask) in masks(offset, len) {
            self.words[index].in_flight |= mask;
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
        for (index, mask) in masks(offset, bytes.len()) {
            self.words[index].in_flight &= !mask;
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
fn masks(offset: usize, len: usize) -> impl Iterator<Item = (usize, u8)> {
    let end = offset + len;
    (offset / 4..end.div_ceil(4)).map(move |word| {
        let from = offset.max(4 * word) - 4 * word;
        let to = end.min(4 * word + 4) - 4 * word;
        (word, (((1u16 << to) - 1) & !((1u16 << from) - 1)) as u8)
    })
}

/// Adds a reader, dropping those that are ordered before it.
fn remember(reads: &mut SmallVec<[Stamp; 1]>, agent: &Agent<'_>) {
    let stamp = agent.stamp;
    reads.retain(|read| {
        let same = read.block == stamp.block && read.warp == stamp.warp;
        !same && !agent.is_after(*read)
    });
    // Two of other blocks suffice: whoever writes then conflicts with one of them.
    let others = reads.iter().filter(|read| read.block != stamp.block).count();
    if others > 2 {
        let position = reads.iter().position(|read| read.block != stamp.block);
        position.map(|i| reads.remove(i));
    }
    reads.push(stamp);
}

/// Where the first allocation begins, and the bytes between two of them.
const FIRST: u64 = 0x7000_0000_0000;
const GAP: u64 = 4096;
/// The alignment of allocations.
const ALIGN: u64 = 256;

/// Global memory: allocations with gaps between them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Global {
    regions: BTreeMap<u64, Region>,
    end: u64,
}

impl Global {
    pub(crate) fn allocate(&mut self, len: usize) -> u64 {
        let start = (self.end.max(FIRST) + GAP).next_multiple_of(ALIGN);
        self.end = start + len as u64;
        self.regions.insert(start, Region::new("global", start, len));
        start
    }

    /// Whether there was such an allocation.
    pub(crate) fn free(&mut self, address: u64) -> bool {
        self.regions.remove(&address).is_some()
    }

    /// The allocation with `address` in it, or just before.
    pub(crate) fn region(&mut self, address: u64, bytes: usize) -> Result<&mut Region, Problem> {
        let found = self.regions.range_mut(..=address).next_back().map(|(_, region)| region);
        found
            .filter(|region| address - region.start() < region.len().max(1) as u64)
            .ok_or(Problem::OutOfBounds { space: "global", address, bytes })
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
        let mut region = Region::new("shared", 0, 64);
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
