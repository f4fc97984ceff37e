//! The lanes of a warp that have touched the bytes of a word. Since Volta lanes need not run in
//! step; only `bar.warp.sync` and the barriers of the block order what they do.

use super::{Agent, Stamp};
use crate::warp::LANES;

/// What lanes know of one another through synchronisations in which only some lanes took part: for
/// each lane and each other lane, the clock of the warp up to which the other's accesses are
/// ordered before its own.
pub(crate) type Pairs = [[u32; LANES]; LANES];

/// In place of a lane: several lanes, or none that a lane could race with.
const SEVERAL: u8 = 0x40;
pub(crate) const NOBODY: u8 = 0x80;

/// The bytes that each mask of four bits stands for.
const BYTES: [u32; 16] = {
    let mut bytes = [0; 16];
    let mut mask = 0;
    while mask < 16 {
        let mut byte = 0;
        while byte < 4 {
            bytes[mask] |= (mask as u32 >> byte & 1) * (0xFF << (8 * byte));
            byte += 1;
        }
        mask += 1;
    }
    bytes
};

#[inline]
fn bytes(mask: u8) -> u32 {
    BYTES[usize::from(mask & 15)]
}

/// One value in all bytes.
#[inline]
fn spread(lane: u8) -> u32 {
    u32::from(lane) * 0x0101_0101
}

/// One lane for each byte of a word.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lanes(pub(super) u32);

impl Lanes {
    /// The agent's lane in the bytes of a mask, and nobody in the others.
    #[inline]
    pub(super) fn only(mask: u8, agent: &Agent<'_>) -> Lanes {
        Lanes(spread(NOBODY)).with(mask, agent)
    }

    /// Puts the agent's lane in the bytes of a mask.
    #[inline]
    pub(super) fn with(self, mask: u8, agent: &Agent<'_>) -> Lanes {
        let bytes = bytes(mask);
        let lane = if agent.several { SEVERAL } else { agent.lane };
        Lanes(self.0 & !bytes | spread(lane) & bytes)
    }

    /// Adds the agent's lane to the lanes in the bytes of `before`, at a clock since which not all
    /// lanes have synchronised.
    #[inline]
    pub(super) fn and(self, before: u8, mask: u8, clock: u32, agent: &Agent<'_>) -> Lanes {
        let both = bytes(before & mask);
        if (self.0 ^ spread(agent.lane)) & both == 0 {
            return self.with(mask, agent);
        }
        // All lanes come to a word that all of them read.
        if (self.0 ^ spread(SEVERAL)) & bytes(mask) == 0
            && both == bytes(mask)
            && agent.pairs.is_none()
        {
            return self;
        }
        self.merged(before, mask, clock, agent)
    }

    #[cold]
    fn merged(self, before: u8, mask: u8, clock: u32, agent: &Agent<'_>) -> Lanes {
        let mut lanes = self.with(mask, agent);
        let both = before & mask;
        for byte in (0..4).filter(|byte| both >> byte & 1 != 0) {
            // A lane that is ordered before this one need not be kept.
            if self.unordered(1 << byte, clock, agent).is_some() {
                let shift = 8 * byte;
                lanes.0 = lanes.0 & !(0xFF << shift) | u32::from(SEVERAL) << shift;
            }
        }
        lanes
    }

    /// Notes a read of the bytes of `mask`, where the bytes of `before` were last read at `clock`.
    #[inline]
    pub(super) fn read(self, before: u8, mask: u8, clock: u32, agent: &Agent<'_>) -> Lanes {
        let Stamp { warp, clock: now, .. } = agent.stamp;
        let differ = (self.0 ^ spread(agent.lane)) & bytes(before & mask);
        if differ != 0 && clock > agent.known[warp as usize] {
            let lanes = self.and(before, mask, clock, agent);
            return if clock == now { lanes } else { lanes.of(mask) };
        }
        // Lanes are not kept for bytes that were read before this clock and are not read now.
        let kept = if clock == now { self.0 } else { spread(NOBODY) };
        Lanes(kept).with(mask, agent)
    }

    /// Keeps the bytes of a mask, with nobody in the others.
    fn of(self, mask: u8) -> Lanes {
        Lanes(self.0 & bytes(mask) | spread(NOBODY) & !bytes(mask))
    }

    /// Finds a lane that has touched bytes of a mask at this clock and is not ordered before the
    /// agent. Returns that lane, or that there are several.
    #[inline]
    pub(super) fn unordered(self, mask: u8, clock: u32, agent: &Agent<'_>) -> Option<Option<u32>> {
        if (self.0 ^ spread(agent.lane)) & bytes(mask) == 0 && !agent.several {
            return None;
        }
        self.search(mask, clock, agent)
    }

    #[cold]
    fn search(self, mask: u8, clock: u32, agent: &Agent<'_>) -> Option<Option<u32>> {
        let lanes =
            (0..4).filter(|byte| mask >> byte & 1 != 0).map(|byte| (self.0 >> (8 * byte)) as u8);
        for lane in lanes {
            let own = lane == agent.lane && !agent.several;
            if own || lane == NOBODY || agent.lane == NOBODY {
                continue;
            }
            let ordered = agent.pairs.is_some_and(|pairs| {
                let known = &pairs[usize::from(agent.lane)];
                match known.get(usize::from(lane)) {
                    Some(known) => *known >= clock,
                    // It is unknown which lanes they are, so one other lane that is not ordered is
                    // enough.
                    None => (0..).zip(known).any(|(i, known)| i != agent.lane && *known >= clock),
                }
            });
            if !ordered {
                return Some((lane != SEVERAL).then_some(lane.into()));
            }
        }
        None
    }
}
