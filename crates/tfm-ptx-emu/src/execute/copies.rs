//! `cp.async`: asynchronous copies that a lane waits for in groups.

use super::access::agent;
use super::{Machine, Result};
use crate::fault::Problem;
use crate::instruction::Op;
use crate::integer;
use crate::memory::{Agent, Stamp};
use crate::warp::{Copy, LANES, Warp, lanes};

impl Machine<'_> {
    pub(super) fn copies(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Result<()> {
        match *op {
            Op::CopyAsync { bytes, to, from, size } => {
                let to = self.addresses(warp, to, active)?;
                let from = self.addresses(warp, from, active)?;
                let mut sizes = [bytes as u64; LANES];
                if let Some(size) = size {
                    let mut room = [0; LANES];
                    sizes = warp.fetch(size, active, &mut room, self)?.map(|x| integer::low(32, x));
                    if let Some(lane) = lanes(active).find(|lane| sizes[*lane] > bytes as u64) {
                        let size = sizes[lane];
                        let problem =
                            format!("a copy of {bytes} bytes takes {size} from its source");
                        return Err((Problem::Launch(problem), lane));
                    }
                }
                for lane in lanes(active) {
                    let to = integer::low(32, to[lane]);
                    let agent = agent!(self, warp, lane);
                    self.shared.begin_copy(to, bytes, &agent).map_err(|problem| (problem, lane))?;
                    let copy = Copy { to, from: from[lane], size: sizes[lane] as usize, bytes };
                    if !self.lazy {
                        let data = self.source(warp, &copy, lane)?;
                        self.shared
                            .early(copy.to, &data[..bytes])
                            .map_err(|problem| (problem, lane))?;
                    }
                    warp.copies(lane).open.push(copy);
                }
                Ok(())
            }
            Op::CommitCopies => {
                for lane in lanes(active) {
                    let copies = &mut warp.copies(lane);
                    let group = std::mem::take(&mut copies.open);
                    copies.groups.push_back(group);
                }
                Ok(())
            }
            Op::WaitCopies { pending, all } => {
                for lane in lanes(active) {
                    loop {
                        let copies = &mut warp.copies(lane);
                        let group = if copies.groups.len() > pending {
                            copies.groups.pop_front().expect("there are more than none")
                        } else if all && !copies.open.is_empty() {
                            std::mem::take(&mut copies.open)
                        } else {
                            break;
                        };
                        for copy in group {
                            let data = self.source(warp, &copy, lane)?;
                            self.shared
                                .end_copy(copy.to, &data[..copy.bytes], &agent!(self, warp, lane))
                                .map_err(|problem| (problem, lane))?;
                        }
                    }
                }
                Ok(())
            }
            _ => unreachable!("no copy"),
        }
    }

    /// The bytes of an asynchronous copy, followed by zeros.
    fn source(&mut self, warp: &mut Warp, copy: &Copy, lane: usize) -> Result<[u8; 16]> {
        let mut data = [0; 16];
        let (address, bytes) = (copy.from, copy.bytes);
        if copy.size > 0 {
            // The source is aligned to the size of the copy, however few bytes are read.
            if !address.is_multiple_of(bytes as u64) {
                return Err((Problem::Misaligned { space: "global", address, bytes }, lane));
            }
            let agent = agent!(self, warp, lane);
            let region = self.global.region(address, copy.size);
            region
                .and_then(|region| region.read_bytes(address, &mut data[..copy.size], &agent))
                .map_err(|problem| (problem, lane))?;
        }
        Ok(data)
    }
}
