//! What is known of a word's past: who wrote it last, and who has read it since.
//!
//! An access that is not ordered after those it conflicts with is a race: the epochs of FastTrack (Flanagan and
//! Freund, PLDI 2009), with a warp as the thread. Masks have a bit a byte.

use super::{Access, Agent, KINDS, Stamp};
use crate::warp::lanes;

/// Why an access must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// An asynchronous copy will write here.
    InFlight,
    /// Nothing orders it after another.
    Race { other: Access, by: Stamp },
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
    /// `[word][kind of agent][warp]`: the clock, and in the lowest 4 bits the bytes.
    reads: Vec<u32>,
    warps: usize,
    /// Agents that read: each warp, or its products and its bulk stores too.
    kinds: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct BlockWord {
    write_clock: u32,
    /// The agents that have read since: of each kind, a bit a warp.
    readers: [u32; KINDS],
    write_by: u8,
    write_mask: u8,
    write_was_atomic: bool,
    in_flight: u8,
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
            *read &= !u32::from(mask);
            if *read & 15 == 0 {
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
        self.written(index, mask, Access::Write, by);
    }

    fn written(&mut self, index: usize, mask: u8, access: Access, by: Stamp) {
        let word = &mut self.words[index];
        // Of other bytes of the word the last writer is kept only where it is the same one.
        let same = u32::from(word.write_by) == by.warp && word.write_clock == by.clock;
        word.write_mask = if same { word.write_mask | mask } else { mask };
        (word.write_by, word.write_clock) = (by.warp as u8, by.clock);
        word.write_was_atomic = access == Access::Atomic;
    }

    /// Where the last read of an agent is kept.
    #[inline]
    fn read_of(&self, index: usize, agent: u32) -> usize {
        let (kind, warp) = (agent as usize / 32, agent as usize % 32);
        (index * self.kinds + kind) * self.warps + warp
    }

    fn check_last_write(
        &self,
        word: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict> {
        let word = &self.words[word];
        if word.in_flight & mask != 0 {
            return Err(Conflict::InFlight);
        }
        let both_atomic = access == Access::Atomic && word.write_was_atomic;
        if word.write_mask & mask != 0
            && word.write_clock > agent.known[usize::from(word.write_by)]
            && !both_atomic
        {
            let (warp, clock) = (word.write_by.into(), word.write_clock);
            let other = if word.write_was_atomic { Access::Atomic } else { Access::Write };
            return Err(Conflict::Race { other, by: Stamp { warp, clock, ..agent.stamp } });
        }
        if let Some(fenced) = agent.fenced
            && word.write_mask & mask != 0
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
            let read = self.reads[self.read_of(index, reader)];
            if read as u8 & mask & 15 != 0 && read >> 4 > agent.known[reader as usize] {
                let by = Stamp { warp: reader, clock: read >> 4, ..agent.stamp };
                return Err(Conflict::Race { other: Access::Read, by });
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
            let read = &mut self.reads[at];
            *read = clock << 4 | *read & 15 | u32::from(mask);
            return Ok(());
        }
        self.check_write(index, mask, access, agent)?;
        self.forget_reads(index, mask);
        self.written(index, mask, access, agent.stamp);
        Ok(())
    }
}

/// Of memory that all blocks of all launches share. They run one after the other; so a word's readers are those of the
/// block that has read it last, and one block before it.
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
    read_block: u32,
    read_clock: u32,
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

    fn check_reads(&self, word: &GridWord, agent: &Agent<'_>) -> Result<(), Conflict> {
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
        match word.set {
            0 if word.read_clock > agent.known[usize::from(word.read_by)] => {
                race(word.read_block, word.read_by.into(), word.read_clock)
            }
            0 => Ok(()),
            set => {
                let clocks = self.sets[set as usize - 1];
                match clocks.iter().zip(agent.known).position(|(read, known)| read > known) {
                    Some(warp) => race(word.read_block, warp as u32, clocks[warp]),
                    None => Ok(()),
                }
            }
        }
    }

    fn note_read(&mut self, index: usize, mask: u8, agent: &Agent<'_>) {
        let Stamp { block, warp, clock } = agent.stamp;
        let word = &mut self.words[index];
        if word.read_mask == 0 || word.read_block != block {
            word.other_block = if word.read_mask == 0 { 0 } else { word.read_block };
            (word.read_block, word.read_by, word.set) = (block, warp as u8, 0);
        } else if u32::from(word.read_by) != warp || word.set != 0 {
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
                let (block, clock) = (word.write_block, word.write_clock);
                let by = Stamp { block, warp: word.write_by.into(), clock };
                return Err(Conflict::Race { other, by });
            }
        }
        if access == Access::Read {
            self.note_read(index, mask, agent);
            return Ok(());
        }
        if word.read_mask & mask != 0 {
            self.check_reads(word, agent)?;
        }
        let word = &mut self.words[index];
        word.read_mask &= !mask;
        // Of other bytes of the word the last writer is kept only where it is the same one.
        let same =
            (word.write_block, u32::from(word.write_by), word.write_clock) == (block, warp, clock);
        word.write_mask = if same { word.write_mask | mask } else { mask };
        (word.write_block, word.write_by, word.write_clock) = (block, warp as u8, clock);
        word.write_was_atomic = access == Access::Atomic;
        Ok(())
    }
}
