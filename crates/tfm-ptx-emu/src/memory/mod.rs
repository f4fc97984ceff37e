//! Memory that records who has written and read it.
//!
//! For each word of 4 bytes it records which bytes were ever written, and whatever it needs to find
//! an access that is not ordered after those it conflicts with.

mod global;
mod lanes;
mod local;
mod past;
mod shared;

use crate::fault::Problem;
pub(crate) use global::Global;
pub(crate) use lanes::{NOBODY, Pairs};
pub(crate) use local::Local;
use past::{Conflict, GridPast, Past};
pub(crate) use shared::Shared;

/// A warp, and its clock at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// The block, counted over all launches from 1.
    pub(crate) block: u32,
    pub(crate) warp: u32,
    /// The warp's own clock.
    pub(crate) clock: u32,
}

/// An agent that accesses memory, and the accesses it knows to be before its own.
#[derive(Clone, Copy, Default)]
pub(crate) struct Agent<'a> {
    pub(crate) stamp: Stamp,
    /// For each warp of the block, the clock up to which its accesses are ordered before this one.
    /// For the agent's own warp, the clock up to which those of all lanes are.
    pub(crate) known: &'a [u32],
    /// The lane, or [`NOBODY`] for the warp as a whole; and whether other lanes do the same
    /// together with it.
    pub(crate) lane: u8,
    pub(crate) several: bool,
    /// What some lanes know of one another beyond what all lanes know.
    pub(crate) pairs: Option<&'a Pairs>,
    /// Blocks with lower numbers belong to earlier launches, which have ended.
    pub(crate) first_block: u32,
    /// For an agent of the asynchronous proxy: for each warp, the clock up to which a fence orders
    /// its writes before this access.
    pub(crate) fenced: Option<&'a [u32]>,
}

/// The numbers of the agents that access shared memory: the warps of a block, their products, their
/// bulk stores, and the bulk loads that each barrier counts. The first three kinds read.
pub(crate) const PRODUCTS: u32 = 32;
pub(crate) const STORES: u32 = 64;
pub(crate) const LOADS: u32 = 96;
pub(crate) const MOST_BARRIERS: usize = 64;
pub(crate) const AGENTS: usize = LOADS as usize + MOST_BARRIERS;
const KINDS: usize = 3;

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
    /// The address of the first byte, for messages.
    start: u64,
    bytes: Vec<u8>,
    /// For each word of 4 bytes, the mask of its bytes that were ever written.
    written: Vec<u8>,
    past: P,
}

impl<P: Past> Region<P> {
    /// Memory that nothing has written.
    fn of(space: &'static str, start: u64, len: usize, past: P) -> Self {
        Region { space, start, bytes: vec![0; len], written: vec![0; len.div_ceil(4)], past }
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

    /// The bytes of a range, each with whether it was ever written, for a copy that keeps both.
    pub(crate) fn state(&self, offset: usize, len: usize) -> Vec<(u8, bool)> {
        let written = |i: usize| self.written[i / 4] >> (i % 4) & 1 != 0;
        (offset..offset + len).map(|i| (self.bytes[i], written(i))).collect()
    }

    /// Writes back what [`Region::state`] returned.
    pub(crate) fn set_state(&mut self, offset: usize, state: &[(u8, bool)]) {
        for (i, (byte, written)) in (offset..).zip(state) {
            self.bytes[i] = *byte;
            let (word, bit) = (&mut self.written[i / 4], 1 << (i % 4));
            *word = if *written { *word | bit } else { *word & !bit };
        }
    }

    /// Reads from outside of all kernels. Bytes that were never written are an error.
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

    /// The offset of an access, which must lie inside of the region and be aligned.
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
        // A copy of a constant length compiles to a single move.
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

    /// Writes any bytes, aligned or not.
    pub(crate) fn write_bytes(
        &mut self,
        address: u64,
        bytes: &[u8],
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.inside(address, bytes.len())?;
        self.mark(offset, bytes.len(), Access::Write, agent)?;
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Replaces a value by what `change` makes of it, and returns the old value.
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

    /// Checks and records a write or an atomic operation.
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
            Conflict::Unfenced => Problem::Unfenced { address },
            Conflict::InWarp { other, lane } => Problem::RaceInWarp {
                space: self.space,
                address,
                access: access.name(),
                other: other.name(),
                lane,
            },
            Conflict::Race { other, by } if by.warp >= PRODUCTS => {
                let by = match by.warp {
                    PRODUCTS..STORES => "a product of a warpgroup",
                    STORES..LOADS => "a bulk store",
                    _ => "a bulk load",
                };
                let (access, other) = (access.name(), other.name());
                Problem::Asynchronous { address, access, other, by }
            }
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

/// Global memory, which all blocks share.
pub(crate) type GridRegion = Region<GridPast>;

/// The words of a range of bytes, each with the mask of its bytes in the range.
#[inline]
fn masks(offset: usize, len: usize) -> impl Iterator<Item = (usize, u8)> {
    let end = offset + len;
    (offset / 4..end.div_ceil(4)).map(move |word| {
        let from = offset.max(4 * word) - 4 * word;
        let to = end.min(4 * word + 4) - 4 * word;
        (word, (((1u16 << to) - 1) & !((1u16 << from) - 1)) as u8)
    })
}

#[cfg(test)]
mod tests;
