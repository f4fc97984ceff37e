//! Counts what accesses cost: sectors of global memory and passes of shared memory.

use super::Machine;
use crate::instruction::Space;
use crate::integer;
use crate::warp::{LANES, Values, lanes};

impl Machine<'_> {
    /// Counts what an access of global or shared memory costs.
    pub(super) fn traffic(&mut self, active: u32, space: Space, at: &Values, bytes: usize) {
        match space {
            Space::Global => {
                let mut sectors = [0u64; 2 * LANES];
                let mut count = 0;
                for lane in lanes(active) {
                    let address = at[lane];
                    for sector in [address / 32, address.wrapping_add(bytes as u64 - 1) / 32] {
                        // Search from the last, since neighbouring lanes mostly touch the same
                        // sector.
                        if !sectors[..count].iter().rev().any(|x| *x == sector) {
                            sectors[count] = sector;
                            count += 1;
                        }
                    }
                }
                self.counters.global_sectors += count as u64;
                self.counters.global_bytes += u64::from(active.count_ones()) * bytes as u64;
            }
            Space::Shared => self.banks(at, bytes, LANES, active),
            _ => {}
        }
    }

    /// Counts the passes of an access of shared memory by the first `count` lanes. One pass serves
    /// lanes up to 128 bytes together; two different words of one bank need two passes.
    pub(super) fn banks(&mut self, at: &Values, bytes: usize, count: usize, active: u32) {
        let together = (128 / bytes.max(4)).max(1);
        for start in (0..count).step_by(together) {
            // The first word in each bank, and the banks that have one.
            let (mut first, mut seen) = ([0u32; 32], 0u32);
            let (mut others, mut number) = ([0u32; 64], 0);
            for (lane, address) in
                at.iter().enumerate().take(count.min(start + together)).skip(start)
            {
                if active >> lane & 1 == 0 {
                    continue;
                }
                let address = integer::low(32, *address);
                for word in address / 4..(address + bytes as u64).div_ceil(4) {
                    let (bank, word) = ((word % 32) as usize, word as u32);
                    if seen >> bank & 1 == 0 {
                        seen |= 1 << bank;
                        first[bank] = word;
                    } else if first[bank] != word
                        && number < others.len()
                        && !others[..number].contains(&word)
                    {
                        others[number] = word;
                        number += 1;
                    }
                }
            }
            let mut passes = [0u8; 32];
            others[..number].iter().for_each(|word| passes[*word as usize % 32] += 1);
            let conflicts = passes.into_iter().max().unwrap_or(0);
            self.counters.shared_passes += u64::from(seen != 0) + u64::from(conflicts);
            self.counters.bank_conflicts += u64::from(conflicts);
        }
    }
}
