//! Instructions that a warp's lanes execute together: shuffles, votes, matrices.

use super::access::atomic;
use super::{Failure, Machine, Result, lanes};
use crate::fault::Problem;
use crate::instruction::{Op, Operand, Operands, Shuffle, Space, Vote};
use crate::matrix;
use crate::warp::{LANES, Warp};

impl Machine<'_> {
    /// The lanes of a collective operation: all of them must name the same mask, and be here.
    fn members(
        &self,
        warp: &Warp,
        operation: &'static str,
        mask: Operand,
        active: u32,
    ) -> Result<()> {
        for lane in lanes(active) {
            let mask = self.read(warp, mask, lane)? as u32;
            self.together(operation, active, mask & warp.live)?;
        }
        Ok(())
    }

    pub(super) fn collective(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Result<()> {
        match *op {
            Op::WarpBarrier { mask } => self.members(warp, "bar.warp.sync", mask, active),
            Op::Shuffle { kind, d, p, a, b, c, mask } => {
                self.members(warp, "shfl.sync", mask, active)?;
                let mut results = [(0, false); LANES];
                for lane in lanes(active) {
                    let b = self.read(warp, b, lane)? as i64 & 31;
                    let c = self.read(warp, c, lane)?;
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
                    results[lane] = (self.read(warp, a, source)?, within);
                }
                for lane in lanes(active) {
                    warp.write(d, lane, results[lane].0, self.kernel);
                    warp.write(p, lane, results[lane].1.into(), self.kernel);
                }
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
                self.each(warp, active, d, |_, _, _| Ok(result))
            }
            Op::ReduceWarp { op, ty, d, a, mask } => {
                self.members(warp, "redux.sync", mask, active)?;
                let mut result = None;
                for lane in lanes(active) {
                    let a = self.read(warp, a, lane)?;
                    result = Some(result.map_or(a, |so_far| atomic(op, ty, so_far, a, 0)));
                }
                let result = result.unwrap_or(0);
                self.each(warp, active, d, |_, _, _| Ok(result))
            }
            Op::ActiveMask { d } => self.each(warp, active, d, |_, _, _| Ok(active.into())),
            Op::LoadMatrix { transposed, ref d, from } => {
                self.together("ldmatrix", active, u32::MAX)?;
                for (i, d) in d.iter().enumerate() {
                    let mut rows = [[0; 16]; 8];
                    for (r, row) in rows.iter_mut().enumerate() {
                        let lane = 8 * i + r;
                        let address = self.address(warp, from, lane)?;
                        self.with(
                            warp,
                            Space::Shared,
                            address,
                            16,
                            lane,
                            |region, address, agent| region.read(address, row, agent),
                        )?;
                    }
                    let half = |row: usize, column: usize| {
                        u64::from(u16::from_le_bytes([
                            rows[row][2 * column],
                            rows[row][2 * column + 1],
                        ]))
                    };
                    for lane in 0..LANES {
                        let (row, column) = (lane / 4, 2 * (lane % 4));
                        let value = if transposed {
                            half(column, row) | half(column + 1, row) << 16
                        } else {
                            half(row, column) | half(row, column + 1) << 16
                        };
                        warp.write(*d, lane, value, self.kernel);
                    }
                }
                self.banks(warp, from, 16, d.len() * 8, active)
            }
            Op::StoreMatrix { transposed, to, ref a } => {
                self.together("stmatrix", active, u32::MAX)?;
                for (i, a) in a.iter().enumerate() {
                    let mut rows = [[0; 16]; 8];
                    for lane in 0..LANES {
                        let value = self.read(warp, *a, lane)?;
                        for part in 0..2 {
                            let (row, column) = (lane / 4, 2 * (lane % 4) + part);
                            let (row, column) =
                                if transposed { (column, row) } else { (row, column) };
                            let half = ((value >> (16 * part)) as u16).to_le_bytes();
                            rows[row][2 * column..2 * column + 2].copy_from_slice(&half);
                        }
                    }
                    for (r, row) in rows.iter().enumerate() {
                        let lane = 8 * i + r;
                        let address = self.address(warp, to, lane)?;
                        self.with(
                            warp,
                            Space::Shared,
                            address,
                            16,
                            lane,
                            |region, address, agent| region.write(address, row, agent),
                        )?;
                    }
                }
                self.banks(warp, to, 16, a.len() * 8, active)
            }
            Op::Product { elements, k, to, ref d, ref a, ref b, ref c } => {
                self.together("mma", active, u32::MAX)?;
                let gather = |operands: &Operands| {
                    let mut registers = [[0; 4]; LANES];
                    for (lane, registers) in registers.iter_mut().enumerate() {
                        for (register, operand) in registers.iter_mut().zip(operands) {
                            *register = self.read(warp, *operand, lane)? as u32;
                        }
                    }
                    Ok::<_, Failure>(registers)
                };
                let a = matrix::tile_a(elements[0], k, &gather(a)?);
                let b = matrix::tile_b(elements[1], k, &gather(b)?);
                let sums = matrix::product(to, k, a, b, &gather(c)?);
                for (lane, sums) in sums.iter().enumerate() {
                    for (d, sum) in d.iter().zip(sums) {
                        warp.write(*d, lane, (*sum).into(), self.kernel);
                    }
                }
                Ok(())
            }
            _ => unreachable!("each lane does it for itself"),
        }
    }
}
