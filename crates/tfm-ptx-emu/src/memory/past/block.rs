//! The past of shared memory, which belongs to one block.

use super::{Conflict, Past};
use crate::memory::lanes::Lanes;
use crate::memory::{Access, Agent, KINDS, LOADS, NOBODY, Stamp};
use crate::warp::lanes;

/// The past of memory that belongs to one block. It keeps the last read of every warp.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockPast {
    words: Vec<BlockWord>,
    /// `[word][kind of agent][warp]`
    reads: Vec<BlockRead>,
    warps: usize,
    /// The kinds of agents that read: warps alone, or warps, their products and their bulk stores.
    kinds: usize,
}

/// The last read of an agent. From the highest bit down, it holds the clock, 4 bits for the bytes,
/// and the [`Lanes`]. It is a single number so that many of them cost nothing to make.
type BlockRead = u64;

#[inline]
fn read(clock: u32, mask: u8, lanes: Lanes) -> BlockRead {
    u64::from(clock) << 36 | u64::from(mask) << 32 | u64::from(lanes.0)
}

#[inline]
fn parts(read: BlockRead) -> (u32, u8, Lanes) {
    ((read >> 36) as u32, (read >> 32) as u8 & 15, Lanes(read as u32))
}

#[derive(Debug, Clone, Copy, Default)]
struct BlockWord {
    write_clock: u32,
    write_lanes: Lanes,
    /// The agents that have read since; for each kind, one bit a warp.
    readers: [u32; KINDS],
    write_by: u8,
    write_mask: u8,
    write_was_atomic: bool,
    in_flight: u8,
}

impl BlockWord {
    /// Checks an access to bytes whose last write may not be ordered before it.
    fn follows_write(&self, mask: u8, agent: &Agent<'_>) -> Result<(), Conflict> {
        let (warp, clock) = (self.write_by.into(), self.write_clock);
        let other = if self.write_was_atomic { Access::Atomic } else { Access::Write };
        // A warp's products and bulk stores count as the warp itself.
        if agent.stamp.warp >= LOADS || agent.stamp.warp % 32 != warp {
            return Err(Conflict::Race { other, by: Stamp { warp, clock, ..agent.stamp } });
        }
        match self.write_lanes.unordered(mask, clock, agent) {
            Some(lane) => Err(Conflict::InWarp { other, lane }),
            None => Ok(()),
        }
    }
}

impl BlockPast {
    pub(in crate::memory) fn new(words: usize, warps: usize, asynchronous: bool) -> Self {
        let kinds = if asynchronous { KINDS } else { 1 };
        let reads = vec![0; words * warps * kinds];
        BlockPast { words: vec![BlockWord::default(); words], reads, warps, kinds }
    }

    /// Checks the write of an asynchronous copy in advance, and records that the copy is under way.
    pub(in crate::memory) fn begin(
        &mut self,
        word: usize,
        mask: u8,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict> {
        self.check_write(word, mask, Access::Write, agent)?;
        self.forget_reads(word, mask);
        self.words[word].in_flight |= mask;
        Ok(())
    }

    /// Forgets reads before a write: whoever is ordered after the write is ordered after them.
    #[inline]
    fn forget_reads(&mut self, index: usize, mask: u8) {
        for reader in readers(self.words[index].readers) {
            let at = self.read_of(index, reader);
            let read = &mut self.reads[at];
            *read &= !(u64::from(mask) << 32);
            if parts(*read).1 == 0 {
                self.words[index].readers[reader as usize / 32] &= !(1 << (reader % 32));
            }
        }
    }

    /// Lets the copy write.
    pub(in crate::memory) fn end(&mut self, word: usize, mask: u8) {
        self.words[word].in_flight &= !mask;
    }

    /// Records that a copy has written.
    pub(in crate::memory) fn land(&mut self, index: usize, mask: u8, by: Stamp) {
        self.end(index, mask);
        let nobody = Agent { stamp: by, lane: NOBODY, ..Agent::default() };
        self.written(index, mask, Access::Write, &nobody);
    }

    fn written(&mut self, index: usize, mask: u8, access: Access, agent: &Agent<'_>) {
        let (word, by) = (&mut self.words[index], agent.stamp);
        // Atomic operations of several lanes do not conflict.
        let beside = access == Access::Atomic
            && word.write_was_atomic
            && u32::from(word.write_by) == by.warp
            && word.write_clock > agent.known[usize::from(word.write_by)];
        word.write_lanes = match beside {
            true => word.write_lanes.and(word.write_mask, mask, word.write_clock, agent),
            false => word.write_lanes.with(mask, agent),
        };
        // The last writer of the word's other bytes is kept only if it is the same.
        let same = u32::from(word.write_by) == by.warp && word.write_clock == by.clock;
        // A plain write counts as plain for other warps, even if its own warp then makes an atomic
        // operation on it.
        let stays = same && !word.write_was_atomic && word.write_mask & mask != 0;
        word.write_mask = if same { word.write_mask | mask } else { mask };
        (word.write_by, word.write_clock) = (by.warp as u8, by.clock);
        word.write_was_atomic = access == Access::Atomic && !stays;
    }

    /// The place where the last read of an agent is kept.
    #[inline]
    fn read_of(&self, index: usize, agent: u32) -> usize {
        let (kind, warp) = (agent as usize / 32, agent as usize % 32);
        (index * self.kinds + kind) * self.warps + warp
    }

    #[inline]
    fn check_last_write(
        &self,
        word: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict> {
        let word = &self.words[word];
        let both = word.write_mask & mask;
        if word.in_flight & mask != 0 {
            return Err(Conflict::InFlight);
        }
        let both_atomic = access == Access::Atomic && word.write_was_atomic;
        if both != 0 && word.write_clock > agent.known[usize::from(word.write_by)] && !both_atomic {
            word.follows_write(both, agent)?;
        }
        if let Some(fenced) = agent.fenced
            && both != 0
            && fenced.get(usize::from(word.write_by)).is_some_and(|at| word.write_clock > *at)
        {
            return Err(Conflict::Unfenced);
        }
        Ok(())
    }

    fn check_write(
        &self,
        index: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict> {
        self.check_last_write(index, mask, access, agent)?;
        for reader in readers(self.words[index].readers) {
            let (clock, bytes, lanes) = parts(self.reads[self.read_of(index, reader)]);
            if bytes & mask != 0 && clock > agent.known[reader as usize] {
                let other = Access::Read;
                if reader != agent.stamp.warp {
                    let by = Stamp { warp: reader, clock, ..agent.stamp };
                    return Err(Conflict::Race { other, by });
                }
                if let Some(lane) = lanes.unordered(bytes & mask, clock, agent) {
                    return Err(Conflict::InWarp { other, lane });
                }
            }
        }
        Ok(())
    }
}

/// The agents in a word's masks.
#[inline]
fn readers(masks: [u32; KINDS]) -> impl Iterator<Item = u32> {
    (0..).zip(masks).flat_map(|(kind, mask)| lanes(mask).map(move |warp| 32 * kind + warp as u32))
}

impl Past for BlockPast {
    #[inline]
    fn note(
        &mut self,
        index: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict> {
        let Stamp { warp, clock, .. } = agent.stamp;
        if access == Access::Read {
            self.check_last_write(index, mask, access, agent)?;
            self.words[index].readers[warp as usize / 32] |= 1 << (warp % 32);
            let at = self.read_of(index, warp);
            let (before, bytes, lanes) = parts(self.reads[at]);
            let lanes = lanes.read(bytes, mask, before, agent);
            self.reads[at] = read(clock, bytes | mask, lanes);
            return Ok(());
        }
        self.check_write(index, mask, access, agent)?;
        self.forget_reads(index, mask);
        self.written(index, mask, access, agent);
        Ok(())
    }
}
