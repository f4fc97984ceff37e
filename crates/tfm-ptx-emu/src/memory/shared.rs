//! Shared memory, which asynchronous and bulk copies write too.

use super::past::BlockPast;
use super::{Access, Agent, Region, Stamp, masks};
use crate::fault::Problem;

/// Shared memory of one block.
pub(crate) type Shared = Region<BlockPast>;

impl Shared {
    /// Memory for a block of `warps` warps.
    pub(crate) fn new(len: usize, warps: usize, asynchronous: bool) -> Self {
        Region::of("shared", 0, len, BlockPast::new(len.div_ceil(4), warps, asynchronous))
    }

    /// Records that a bulk copy will write here.
    pub(crate) fn begin_bulk(
        &mut self,
        address: u64,
        len: usize,
        agent: &Agent<'_>,
    ) -> Result<(), Problem> {
        let offset = self.inside(address, len)?;
        for (word, mask) in masks(offset, len) {
            let begun = self.past.begin(word, mask, agent);
            begun.map_err(|conflict| self.problem(word, Access::Write, conflict, agent))?;
        }
        Ok(())
    }

    /// Writes the bytes of a bulk copy that has begun.
    pub(crate) fn land(&mut self, address: u64, bytes: &[u8], by: Stamp) -> Result<(), Problem> {
        let offset = self.inside(address, bytes.len())?;
        for (word, mask) in masks(offset, bytes.len()) {
            self.past.land(word, mask, by);
            self.written[word] |= mask;
        }
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Records that an asynchronous copy will write here. No access is allowed until it has.
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

    /// Records that the copy has been waited for.
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

    /// Writes a copy's bytes before anyone waits for it, as an eager machine does.
    pub(crate) fn early(&mut self, address: u64, bytes: &[u8]) -> Result<(), Problem> {
        let offset = self.offset(address, bytes.len())?;
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}
