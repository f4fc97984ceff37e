//! Global memory: allocations with gaps between them.

use super::past::GridPast;
use super::{GridRegion, Region};
use crate::fault::Problem;

/// The address of the first allocation, and the gap in bytes between two allocations.
const FIRST: u64 = 0x7000_0000_0000;
const GAP: u64 = 4096;
/// The alignment of allocations.
const ALIGN: u64 = 256;

/// Global memory: allocations with gaps between them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Global {
    /// Sorted by address.
    regions: Vec<GridRegion>,
    /// The region that was found last.
    recent: usize,
    end: u64,
}

impl Global {
    pub(crate) fn allocate(&mut self, len: usize) -> u64 {
        let start = (self.end.max(FIRST) + GAP).next_multiple_of(ALIGN);
        self.end = start + len as u64;
        let past = GridPast::new(len.div_ceil(4));
        self.regions.push(Region::of("global", start, len, past));
        start
    }

    /// Frees an allocation. Returns whether there was one at this address.
    pub(crate) fn free(&mut self, address: u64) -> bool {
        let found = self.regions.binary_search_by_key(&address, Region::start);
        found.map(|index| self.regions.remove(index)).is_ok()
    }

    /// The allocation that contains `address`.
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
