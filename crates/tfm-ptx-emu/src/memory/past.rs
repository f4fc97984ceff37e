//! What is known of a word's past: who wrote it last, and who has read it since.
//!
//! An access that is not ordered after those it conflicts with is a race: the epochs of FastTrack (Flanagan and
//! Freund, PLDI 2009), with a warp as the thread. Masks have a bit a byte.

use super::{Access, Agent, Stamp};

/// Why an access must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// An asynchronous copy will write here.
    InFlight,
    /// Nothing orders it after another.
    Race { other: Access, by: Stamp },
}

/// The past of a region's words.
pub(crate) trait Past: Clone {
    /// Of so many words, for so many warps a block.
    fn new(words: usize, warps: usize) -> Self;

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
    /// `[word][warp]`: the clock, and in the lowest 4 bits the bytes.
    reads: Vec<u32>,
    warps: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct BlockWord {
    write_clock: u32,
    /// The warps that have read since.
    readers: u32,
    write_by: u8,
    write_mask: u8,
    write_was_atomic: bool,
    in_flight: u8,
}

impl BlockPast {
    /// Checks a write that an asynchronous copy will do, and notes that it is under way.
    pub(super) fn begin(
        &mut self,
        word: usize,
        mask: u8,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict> {
        self.check_write(word, mask, Access::Write, agent)?;
        self.words[word].in_flight |= mask;
        Ok(())
    }

    /// The copy may write now.
    pub(super) fn end(&mut self, word: usize, mask: u8) {
        self.words[word].in_flight &= !mask;
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
        let mut readers = self.words[index].readers;
        while readers != 0 {
            let warp = readers.trailing_zeros();
            readers &= readers - 1;
            let read = self.reads[index * self.warps + warp as usize];
            if read as u8 & mask & 15 != 0 && read >> 4 > agent.known[warp as usize] {
                let by = Stamp { warp, clock: read >> 4, ..agent.stamp };
                return Err(Conflict::Race { other: Access::Read, by });
            }
        }
        Ok(())
    }
}

impl Past for BlockPast {
    fn new(words: usize, warps: usize) -> Self {
        let reads = vec![0; words * warps];
        BlockPast { words: vec![BlockWord::default(); words], reads, warps }
    }

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
            self.words[index].readers |= 1 << warp;
            let read = &mut self.reads[index * self.warps + warp as usize];
            *read = clock << 4 | *read & 15 | u32::from(mask);
            return Ok(());
        }
        self.check_write(index, mask, access, agent)?;
        let word = &mut self.words[index];
        let mut readers = word.readers;
        while readers != 0 {
            let warp = readers.trailing_zeros();
            readers &= readers - 1;
            let read = &mut self.reads[index * self.warps + warp as usize];
            *read &= !u32::from(mask);
            if *read & 15 == 0 {
                word.readers &= !(1 << warp);
            }
        }
        // Of other bytes of the word the last writer is kept only where it is the same one.
        let same = u32::from(word.write_by) == warp && word.write_clock == clock;
        word.write_mask = if same { word.write_mask | mask } else { mask };
        (word.write_by, word.write_clock) = (warp as u8, clock);
        word.write_was_atomic = access == Access::Atomic;
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
    fn new(words: usize, _: usize) -> Self {
        GridPast { words: vec![GridWord::default(); words], ..GridPast::default() }
    }

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
