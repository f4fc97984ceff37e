//! The past of global memory, which all blocks share.

use super::{Conflict, Past};
use crate::memory::lanes::Lanes;
use crate::memory::{Access, Agent, Stamp};

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
    pub(in crate::memory) fn new(words: usize) -> Self {
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
