//! What is known of a word's past: who wrote it last, and who has read it since.
//!
//! An access that is not ordered after those it conflicts with is a race: the epochs of FastTrack
//! (Flanagan and Freund, PLDI 2009), with a warp as the thread; of its own warp an agent knows what
//! all lanes know, and beyond that [`Lanes`] tell. Masks have a bit a byte.

use super::lanes::Lanes;
use super::{Access, Agent, KINDS, LOADS, NOBODY, Stamp};
use crate::warp::lanes;

/// Why an access must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// An asynchronous copy will write here.
    InFlight,
    /// Nothing orders it after another.
    Race { other: Access, by: Stamp },
    /// The same of another lane of the warp, or of several.
    InWarp { other: Access, lane: Option<u32> },
    /// It is of the asynchronous proxy, and no fence orders it after a write of the generic one.
    Unfenced,
}

/// The past of a region's words.
pub(crate) trait Past: Clone {
    /// Checks an access, and notes it.
    fn note(
        &mut self,
        word: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict>;
}

/// Of memory that one block has for itself: each warp's last read is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockPast {
    words: Vec<BlockWord>,
    /// `[word][kind of agent][warp]`
    reads: Vec<BlockRead>,
    warps: usize,
    /// Agents that read: each warp, or its products and its bulk stores too.
    kinds: usize,
}

/// The last read of an agent: from the highest bit the clock, 4 bits for the bytes, and the
/// [`Lanes`]. (As one number it costs nothing to make many of them.)
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
    /// The agents that have read since: of each kind, a bit a warp.
    readers: [u32; KINDS],
    write_by: u8,
    write_mask: u8,
    write_was_atomic: bool,
    in_flight: u8,
}

impl BlockWord {
    /// Checks an access to bytes whose last write is not known to be ordered before it.
    fn follows_write(&self, mask: u8, agent: &Agent<'_>) -> Result<(), Conflict> {
        let (warp, clock) = (self.write_by.into(), self.write_clock);
        let other = if self.write_was_atomic { Access::Atomic } else { Access::Write };
        // What a warp's products and bulk stores do, the warp does.
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

    /// Checks a write that an asynchronous copy will do, and notes that it is under way.
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

    /// Reads before a write need not be known any more: who comes after the write comes after them.
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

    /// The copy may write now.
    pub(super) fn end(&mut self, word: usize, mask: u8) {
        self.words[word].in_flight &= !mask;
    }

    /// What has begun is written.
    pub(super) fn land(&mut self, index: usize, mask: u8, by: Stamp) {
        self.end(index, mask);
        let nobody = Agent { stamp: by, lane: NOBODY, ..Agent::default() };
        self.written(index, mask, Access::Write, &nobody);
    }

    fn written(&mut self, index: usize, mask: u8, access: Access, agent: &Agent<'_>) {
        let (word, by) = (&mut self.words[index], agent.stamp);
        // Atomic operations of several lanes come beside one another.
        let beside = access == Access::Atomic
            && word.write_was_atomic
            && u32::from(word.write_by) == by.warp
            && word.write_clock > agent.known[usize::from(word.write_by)];
        word.write_lanes = match beside {
            true => word.write_lanes.and(word.write_mask, mask, word.write_clock, agent),
            false => word.write_lanes.with(mask, agent),
        };
        // Of other bytes of the word the last writer is kept only where it is the same one.
        let same = u32::from(word.write_by) == by.warp && word.write_clock == by.clock;
        // A plain write that its own warp makes an atomic operation upon stays one for others.
        let stays = same && !word.write_was_atomic && word.write_mask & mask != 0;
        word.write_mask = if same { word.write_mask | mask } else { mask };
        (word.write_by, word.write_clock) = (by.warp as u8, by.clock);
        word.write_was_atomic = access == Access::Atomic && !stays;
    }

    /// Where the last read of an agent is kept.
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

/// The agents of a word's masks.
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

/// Of memory that all blocks of all launches share. They run one after the other; so a word's
/// readers are those of the block that has read it last, and one block before it.
#[derive(Debug, Clone, Default)]
pub(crate) struct GridPast {
    words: Vec<GridWord>,
    /// The clock at which each warp of a block has read, where more than one did.
    sets: Vec<[u32; 32]>,
    /// The block that the sets belong to.
    sets_of: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct GridWord {
    write_block: u32,
    write_clock: u32,
    write_lanes: Lanes,
    read_block: u32,
    read_clock: u32,
    /// Where one warp has read.
    read_lanes: Lanes,
    /// A block that has read before `read_block`.
    other_block: u32,
    /// The number of the set, from 1.
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
            // Of several warps the lanes are not known.
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
        // Of other bytes of the word the last writer is kept only where it is the same one.
        let same =
            (word.write_block, u32::from(word.write_by), word.write_clock) == (block, warp, clock);
        let stays = same && !word.write_was_atomic && word.write_mask & mask != 0;
        // Atomic operations of several lanes come beside one another.
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
