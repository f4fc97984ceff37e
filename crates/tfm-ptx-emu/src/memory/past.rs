//! What is known of a word's past: its last writer, and the agents that have read it since.
//!
//! An access that is not ordered after those it conflicts with is a race. The method is that of
//! FastTrack's epochs (Flanagan and Freund, PLDI 2009), with warps as the threads. Of its own warp,
//! an agent knows what all lanes know; [`Lanes`] say what single lanes know beyond that. Masks have
//! one bit for each byte.

use super::lanes::Lanes;
use super::{Access, Agent, KINDS, LOADS, NOBODY, Stamp};
use crate::warp::lanes;

/// Why an access is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// An asynchronous copy will write here.
    InFlight,
    /// Nothing orders it after another access.
    Race { other: Access, by: Stamp },
    /// Nothing orders it after an access of another lane, or of several lanes, of its warp.
    InWarp { other: Access, lane: Option<u32> },
    /// The asynchronous proxy does the access, and no fence orders it after a write of the generic
    /// proxy.
    Unfenced,
}

/// The past of a region's words.
pub(crate) trait Past: Clone {
    /// Checks an access and records it.
    fn note(
        &mut self,
        word: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict>;
}

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
    pub(super) fn new(words: usize, warps: usize, asynchronous: bool) -> Self {
        let kinds = if asynchronous { KINDS } else { 1 };
        let reads = vec![0; words * warps * kinds];
        BlockPast { words: vec![BlockWord::default(); words], reads, warps, kinds }
    }

    /// Checks the write of an asynchronous copy in advance, and records that the copy is under way.
    pub(super) fn begin(
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
    pub(super) fn end(&mut self, word: usize, mask: u8) {
        self.words[word].in_flight &= !mask;
    }

    /// Records that a copy has written.
    pub(super) fn land(&mut self, index: usize, mask: u8, by: Stamp) {
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

/// The past of memory that all blocks of all launches share. Blocks run one after the other. So a
/// word's readers are those of the block that read it last, and one earlier block.
#[derive(Debug, Clone, Default)]
pub(crate) struct GridPast {
    words: Vec<GridWord>,
    /// For words that several warps of a block have read, the clock at which each warp read it.
    sets: Vec<[u32; 32]>,
    /// The block that these sets belong to.
    sets_of: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct GridWord {
    write_block: u32,
    write_clock: u32,
    write_lanes: Lanes,
    read_block: u32,
    read_clock: u32,
    /// The lanes of the one warp that has read.
    read_lanes: Lanes,
    /// A block that has read the word before `read_block`.
    other_block: u32,
    /// The number of the word's set, counted from 1.
    set: u32,
    write_by: u8,
    read_by: u8,
    write_mask: u8,
    read_mask: u8,
    write_was_atomic: bool,
}

impl GridPast {
    pub(super) fn new(words: usize) -> Self {
        GridPast { words: vec![GridWord::default(); words], ..GridPast::default() }
    }

    fn check_reads(&self, word: &GridWord, mask: u8, agent: &Agent<'_>) -> Result<(), Conflict> {
        let race = |block: u32, warp: u32, clock: u32| {
            Err(Conflict::Race { other: Access::Read, by: Stamp { block, warp, clock } })
        };
        if word.read_block < agent.first_block {
            return Ok(());
        }
        if word.read_block != agent.stamp.block {
            return race(word.read_block, word.read_by.into(), word.read_clock);
        }
        if word.other_block >= agent.first_block {
            return race(word.other_block, 0, 0);
        }
        let own = agent.stamp.warp as usize;
        if word.set != 0 {
            // For several warps the lanes are not kept.
            let clocks = self.sets[word.set as usize - 1];
            let mut all = clocks.iter().zip(agent.known).enumerate();
            return match all.position(|(warp, (read, known))| read > known && warp != own) {
                Some(warp) => race(word.read_block, warp as u32, clocks[warp]),
                None => Ok(()),
            };
        }
        let (warp, clock) = (word.read_by, word.read_clock);
        if clock <= agent.known[usize::from(warp)] {
            return Ok(());
        }
        if usize::from(warp) != own {
            return race(word.read_block, warp.into(), clock);
        }
        match word.read_lanes.unordered(word.read_mask & mask, clock, agent) {
            Some(lane) => Err(Conflict::InWarp { other: Access::Read, lane }),
            None => Ok(()),
        }
    }

    fn note_read(&mut self, index: usize, mask: u8, agent: &Agent<'_>) {
        let Stamp { block, warp, clock } = agent.stamp;
        let word = &mut self.words[index];
        if word.read_mask == 0 || word.read_block != block {
            word.read_lanes = Lanes::only(mask, agent);
            word.other_block = if word.read_mask == 0 { 0 } else { word.read_block };
            (word.read_block, word.read_by, word.set) = (block, warp as u8, 0);
        } else if u32::from(word.read_by) == warp && word.set == 0 {
            word.read_lanes = word.read_lanes.read(word.read_mask, mask, word.read_clock, agent);
        } else {
            if word.set == 0 {
                if self.sets_of != block {
                    self.sets.clear();
                    self.sets_of = block;
                }
                let mut clocks = [0; 32];
                clocks[usize::from(word.read_by)] = word.read_clock;
                self.sets.push(clocks);
                word.set = self.sets.len() as u32;
            }
            self.sets[word.set as usize - 1][warp as usize] = clock;
            word.read_by = warp as u8;
        }
        word.read_clock = clock;
        word.read_mask |= mask;
    }
}

impl Past for GridPast {
    #[inline]
    fn note(
        &mut self,
        index: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict> {
        let word = &self.words[index];
        let Stamp { block, warp, clock } = agent.stamp;
        if word.write_mask & mask != 0 && word.write_block >= agent.first_block {
            let ordered = word.write_block == block
                && word.write_clock <= agent.known[usize::from(word.write_by)];
            let both_atomic = access == Access::Atomic && word.write_was_atomic;
            if !ordered && !both_atomic {
                let other = if word.write_was_atomic { Access::Atomic } else { Access::Write };
                let own = (word.write_block, u32::from(word.write_by)) == (block, warp);
                let bytes = word.write_mask & mask;
                if !own {
                    let (block, clock) = (word.write_block, word.write_clock);
                    let by = Stamp { block, warp: word.write_by.into(), clock };
                    return Err(Conflict::Race { other, by });
                }
                if let Some(lane) = word.write_lanes.unordered(bytes, word.write_clock, agent) {
                    return Err(Conflict::InWarp { other, lane });
                }
            }
        }
        if access == Access::Read {
            self.note_read(index, mask, agent);
            return Ok(());
        }
        if word.read_mask & mask != 0 {
            self.check_reads(word, mask, agent)?;
        }
        let word = &mut self.words[index];
        word.read_mask &= !mask;
        // The last writer of the word's other bytes is kept only if it is the same.
        let same =
            (word.write_block, u32::from(word.write_by), word.write_clock) == (block, warp, clock);
        let stays = same && !word.write_was_atomic && word.write_mask & mask != 0;
        // Atomic operations of several lanes do not conflict.
        let beside = access == Access::Atomic
            && word.write_was_atomic
            && (word.write_block, u32::from(word.write_by)) == (block, warp)
            && word.write_clock > agent.known[warp as usize];
        word.write_lanes = match beside {
            true => word.write_lanes.and(word.write_mask, mask, word.write_clock, agent),
            false => word.write_lanes.with(mask, agent),
        };
        word.write_mask = if same { word.write_mask | mask } else { mask };
        (word.write_block, word.write_by, word.write_clock) = (block, warp as u8, clock);
        word.write_was_atomic = access == Access::Atomic && !stays;
        Ok(())
    }
}
