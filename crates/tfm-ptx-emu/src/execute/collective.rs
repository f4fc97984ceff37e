//! The instructions that a warp's lanes execute together: shuffles, votes, matrices.

use super::access::atomic;
use super::{Failure, Machine, Result};
use crate::fault::Problem;
use crate::instruction::{Op, Operand, Operands, Shuffle, Space, Vote};
use crate::matrix;
use crate::warp::{LANES, Warp, lanes};

impl Machine<'_> {
    /// The lanes of a collective operation. All of them must name the same mask and be at this
    /// instruction.
    fn members(
        &self,
        warp: &Warp,
        operation: &'static str,
        mask: Operand,
        active: u32,
    ) -> Result<()> {
        if let Operand::Immediate(mask) = mask {
            return self.together(operation, active, mask as u32 & warp.live);
        }
        let mut room = [0; LANES];
        let masks = warp.fetch(mask, active, &mut room, self)?;
        lanes(active)
            .try_for_each(|lane| self.together(operation, active, masks[lane] as u32 & warp.live))
    }

    pub(super) fn collective(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Result<()> {
        let kernel = self.kernel;
        match *op {
            Op::WarpBarrier { mask } => {
                self.members(warp, "bar.warp.sync", mask, active)?;
                warp.synchronise(active);
                Ok(())
            }
            Op::Shuffle { kind, d, p, a, b, c, mask } => {
                self.members(warp, "shfl.sync", mask, active)?;
                let mut rooms = [[0; LANES]; 3];
                let [room, other_room, third_room] = &mut rooms;
                let (mut results, mut found) = ([0; LANES], 0u32);
                let b = warp.fetch(b, active, room, self)?;
                let c = warp.fetch(c, active, other_room, self)?;
                let (values, defined) = warp.values(a, third_room, self);
                for lane in lanes(active) {
                    let (b, c) = (b[lane] as i64 & 31, c[lane]);
                    let (segment, clamp, own) =
                        ((c >> 8 & 31) as i64, (c & 31) as i64, lane as i64);
                    let (lowest, bound) = (own & segment, (own & segment) | (clamp & !segment));
                    let (source, within) = match kind {
                        Shuffle::Up => (own - b, own - b >= bound),
                        Shuffle::Down => (own + b, own + b <= bound),
                        Shuffle::Butterfly => (own ^ b, own ^ b <= bound),
                        Shuffle::Index => {
                            let source = lowest | (b & !segment);
                            (source, source <= bound)
                        }
                    };
                    let source = if within { source as usize } else { lane };
                    if active >> source & 1 == 0 {
                        return Err((Problem::ShuffleSource { lane: source as u32 }, lane));
                    }
                    if defined >> source & 1 == 0 {
                        // This fails, and names the register.
                        self.of_lane(warp, a, source)?;
                    }
                    results[lane] = values[source];
                    found |= u32::from(within) << lane;
                }
                warp.put(d, active, &results, kernel);
                warp.put_mask(p, active, found, kernel);
                Ok(())
            }
            Op::Vote { kind, d, p, mask } => {
                self.members(warp, "vote.sync", mask, active)?;
                let yes = self.holds(warp, p, active)?;
                let result = match kind {
                    Vote::All => u64::from(yes == active),
                    Vote::Any => u64::from(yes != 0),
                    Vote::Uniform => u64::from(yes == 0 || yes == active),
                    Vote::Ballot => yes.into(),
                };
                warp.put(d, active, &[result; LANES], kernel);
                Ok(())
            }
            Op::ReduceWarp { op, ty, d, a, mask } => {
                self.members(warp, "redux.sync", mask, active)?;
                let mut room = [0; LANES];
                let a = warp.fetch(a, active, &mut room, self)?;
                let all = lanes(active).map(|lane| a[lane]);
                let result = all.reduce(|x, y| atomic(op, ty, x, y, 0)).unwrap_or(0);
                warp.put(d, active, &[result; LANES], kernel);
                Ok(())
            }
            Op::ActiveMask { d } => {
                warp.put(d, active, &[active.into(); LANES], kernel);
                Ok(())
            }
            Op::LoadMatrix { transposed, ref d, from } => {
                self.together("ldmatrix", active, u32::MAX)?;
                let addresses = self.addresses(warp, from, first_lanes(8 * d.len()))?;
                for (i, d) in d.iter().enumerate() {
                    let mut halves = [[0u16; 8]; 8];
                    for (r, halves) in halves.iter_mut().enumerate() {
                        let (lane, mut row) = (8 * i + r, [0; 16]);
                        self.read(warp, Space::Shared, addresses[lane], &mut row, lane)?;
                        for (half, bytes) in halves.iter_mut().zip(row.as_chunks().0) {
                            *half = u16::from_le_bytes(*bytes);
                        }
                    }
                    let mut values = [0; LANES];
                    for (lane, value) in values.iter_mut().enumerate() {
                        let (row, column) = (lane / 4, 2 * (lane % 4));
                        let pair = if transposed {
                            [halves[column][row], halves[column + 1][row]]
                        } else {
                            [halves[row][column], halves[row][column + 1]]
                        };
                        *value = u64::from(pair[0]) | u64::from(pair[1]) << 16;
                    }
                    warp.put(*d, active, &values, kernel);
                }
                self.banks(&addresses, 16, d.len() * 8, active);
                Ok(())
            }
            Op::StoreMatrix { transposed, to, ref a } => {
                self.together("stmatrix", active, u32::MAX)?;
                let addresses = self.addresses(warp, to, first_lanes(8 * a.len()))?;
                let mut matrices = [[[0; 16]; 8]; 4];
                for (rows, a) in matrices.iter_mut().zip(a) {
                    let mut room = [0; LANES];
                    let values = warp.fetch(*a, active, &mut room, self)?;
                    for (lane, value) in values.iter().enumerate() {
                        for part in 0..2 {
                            let (row, column) = (lane / 4, 2 * (lane % 4) + part);
                            let (row, column) =
                                if transposed { (column, row) } else { (row, column) };
                            let half = ((value >> (16 * part)) as u16).to_le_bytes();
                            rows[row][2 * column..2 * column + 2].copy_from_slice(&half);
                        }
                    }
                }
                let rows = matrices.as_flattened();
                let holders = first_lanes(8 * a.len());
                self.write_all(warp, Space::Shared, &addresses, holders, |lane| &rows[lane])?;
                self.banks(&addresses, 16, a.len() * 8, active);
                Ok(())
            }
            Op::Product { elements, k, to, ref d, ref a, ref b, ref c } => {
                self.together("mma", active, u32::MAX)?;
                let gather = |operands: &Operands| {
                    let mut registers = [[0; LANES]; 4];
                    for (registers, operand) in registers.iter_mut().zip(operands) {
                        let mut room = [0; LANES];
                        let values = warp.fetch(*operand, active, &mut room, self)?;
                        registers.iter_mut().zip(values).for_each(|(x, wide)| *x = *wide as u32);
                    }
                    Ok::<_, Failure>(registers)
                };
                let a = matrix::tile_a(elements[0], k, &gather(a)?);
                let b = matrix::tile_b(elements[1], k, &gather(b)?);
                let sums = matrix::product(to, k, &a, &b, &gather(c)?);
                for (d, sums) in d.iter().zip(sums) {
                    warp.put(*d, active, &sums.map(u64::from), kernel);
                }
                Ok(())
            }
            _ => unreachable!("each lane does it for itself"),
        }
    }
}

fn first_lanes(count: usize) -> u32 {
    u32::MAX >> (LANES - count.clamp(1, LANES))
}
