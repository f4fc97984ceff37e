//! The barriers in shared memory that came with compute capability 9.0, and where the other
//! instructions of that version are dispatched.

use super::bulk::{ALIGN, ALIGN_OF_TILES};
use super::{Machine, Request, Result, first};
use crate::asynchronous::join;
use crate::fault::Problem;
use crate::instruction::{Address, Hopper, Operand, Space};
use crate::integer;
use crate::memory::Stamp;
use crate::warp::{LANES, Values, Warp, lanes};

impl Machine<'_> {
    pub(super) fn hopper(&mut self, warp: &mut Warp, op: &Hopper, active: u32) -> Result<Request> {
        let whole = |operation: &'static str| self.together(operation, active, warp.live);
        match *op {
            Hopper::SetRegisters => whole("setmaxnreg")?,
            Hopper::Leader { d, p, mask } => {
                let mask = self.of_lane(warp, mask, first(active))? as u32;
                self.together("elect.sync", active, mask & warp.live)?;
                let lane = first(active);
                warp.put(d, active, &[lane as u64; LANES], self.kernel);
                warp.put_mask(p, active, 1 << lane, self.kernel);
            }
            Hopper::ProxyFence => {
                if let Some(begun) = &mut warp.begun {
                    let count = begun.fenced.len();
                    join(&mut begun.fenced, &warp.clocks[..count]);
                    begun.fenced[warp.number as usize] = warp.clock;
                    warp.clock += 1;
                }
            }
            Hopper::BarrierInit { at, count } => {
                let (at, count) =
                    (self.addresses(warp, at, active)?, self.all(warp, count, active)?);
                for lane in lanes(active) {
                    let address = integer::low(32, at[lane]);
                    self.write(warp, Space::Shared, address, &[0; 8], lane)?;
                    let count = u32::try_from(count[lane]).unwrap_or(0);
                    let problem = match count {
                        1..=0xF_FFFF => self.barriers.add(address, count, self.stamp(warp)),
                        _ => Err(format!("{count} arrivals")),
                    };
                    problem.map_err(|problem| (Problem::Barrier { address, problem }, lane))?;
                }
            }
            Hopper::BarrierEnd { at } => {
                let at = self.addresses(warp, at, active)?;
                for lane in lanes(active) {
                    let address = integer::low(32, at[lane]);
                    self.barrier(warp, address, lane)?;
                    self.write(warp, Space::Shared, address, &[0; 8], lane)?;
                    self.barriers.all.remove(&address);
                }
            }
            Hopper::BarrierArrive { d, at, count, bytes, may_complete } => {
                let counts = self.all(warp, count.unwrap_or(Operand::Immediate(1)), active)?;
                let bytes = self.all(warp, bytes.unwrap_or(Operand::Sink), active)?;
                let at = self.addresses(warp, at, active)?;
                let mut phases = [0; LANES];
                for lane in lanes(active) {
                    let address = integer::low(32, at[lane]);
                    self.barrier(warp, address, lane)?;
                    let Some(barrier) = self.barriers.all.get_mut(&address) else { continue };
                    phases[lane] = barrier.phase.into();
                    let count = u32::try_from(counts[lane]).unwrap_or(0);
                    let done = match bytes[lane] {
                        0 => Ok(()),
                        bytes => barrier.expect(i64::from(bytes as u32)),
                    };
                    done.and_then(|()| barrier.arrive(count, may_complete, warp))
                        .map_err(|problem| (Problem::Barrier { address, problem }, lane))?;
                }
                // The arrival does not order what the warp does from here on.
                warp.clock += 1;
                warp.put(d, active, &phases, self.kernel);
            }
            Hopper::BarrierBytes { at, bytes, complete } => {
                let (at, bytes) =
                    (self.addresses(warp, at, active)?, self.all(warp, bytes, active)?);
                for lane in lanes(active) {
                    let address = integer::low(32, at[lane]);
                    self.barrier(warp, address, lane)?;
                    let bytes = i64::from(bytes[lane] as u32) * if complete { -1 } else { 1 };
                    let Some(barrier) = self.barriers.all.get_mut(&address) else { continue };
                    let done = barrier.expect(bytes);
                    done.map_err(|problem| (Problem::Barrier { address, problem }, lane))?;
                }
            }
            Hopper::BarrierWait { d, at, phase, parity, may_sleep } => {
                return self.wait(warp, active, d, at, phase, parity, may_sleep);
            }
            Hopper::BulkLoad { to, from, bytes, barrier } => {
                let (to, from) =
                    (self.addresses(warp, to, active)?, self.addresses(warp, from, active)?);
                let bytes = self.all(warp, bytes, active)?;
                let barrier = self.addresses(warp, barrier, active)?;
                for lane in lanes(active) {
                    let (to, bytes) = (integer::low(32, to[lane]), self.size(bytes[lane], lane)?);
                    self.aligned("global", from[lane], ALIGN, bytes, lane)?;
                    self.aligned("shared", to, ALIGN, bytes, lane)?;
                    let data = self.read_global(warp, from[lane], bytes, lane)?;
                    self.begin_load(warp, to, data, integer::low(32, barrier[lane]), lane)?;
                }
            }
            Hopper::TensorLoad { to, map, ref at, barrier } => {
                let to = self.addresses(warp, to, active)?;
                let barrier = self.addresses(warp, barrier, active)?;
                let maps = self.addresses(warp, map, active)?;
                for lane in lanes(active) {
                    let to = integer::low(32, to[lane]);
                    let (map, at) = self.tile(warp, maps[lane], at, lane)?;
                    self.aligned("shared", to, ALIGN_OF_TILES, map.bytes(), lane)?;
                    let mut tile = map.outside();
                    for (start, address, bytes) in map.rows(&at) {
                        let row = self.read_global(warp, address, bytes, lane)?;
                        tile[start..start + bytes].copy_from_slice(&row);
                    }
                    let tile = map.turned(to, &tile);
                    self.begin_load(warp, to, tile, integer::low(32, barrier[lane]), lane)?;
                }
            }
            Hopper::BulkStore { to, from, bytes } => {
                let (to, from) =
                    (self.addresses(warp, to, active)?, self.addresses(warp, from, active)?);
                let bytes = self.all(warp, bytes, active)?;
                for lane in lanes(active) {
                    let bytes = self.size(bytes[lane], lane)?;
                    let from = integer::low(32, from[lane]);
                    self.aligned("global", to[lane], ALIGN, bytes, lane)?;
                    self.aligned("shared", from, ALIGN, bytes, lane)?;
                    let data = self.stored(warp, from, bytes, lane)?;
                    self.begin_store(warp, vec![(to[lane], data)], lane)?;
                }
            }
            Hopper::TensorStore { map, ref at, from } => {
                let from = self.addresses(warp, from, active)?;
                let maps = self.addresses(warp, map, active)?;
                for lane in lanes(active) {
                    let from = integer::low(32, from[lane]);
                    let (map, at) = self.tile(warp, maps[lane], at, lane)?;
                    self.aligned("shared", from, ALIGN_OF_TILES, map.bytes(), lane)?;
                    let tile = map.turned(from, &self.stored(warp, from, map.bytes(), lane)?);
                    let row =
                        |(start, address, bytes)| (address, tile[start..start + bytes].to_vec());
                    let rows = map.rows(&at).into_iter().map(row).collect();
                    self.begin_store(warp, rows, lane)?;
                }
            }
            Hopper::BulkCommit => {
                for lane in lanes(active) {
                    let Some(begun) = &mut warp.begun else { continue };
                    let stores = begun.lanes.entry(lane).or_default();
                    let group = std::mem::take(&mut stores.open);
                    stores.groups.push_back(group);
                }
            }
            Hopper::BulkWait { pending } => {
                for lane in lanes(active) {
                    self.end_stores(warp, pending, lane)?;
                }
            }
            Hopper::ProductFence => {
                whole("wgmma.fence")?;
                if let Some(begun) = &mut warp.begun {
                    begun.fences += 1;
                }
            }
            Hopper::ProductCommit => {
                whole("wgmma.commit_group")?;
                if let Some(begun) = &mut warp.begun {
                    let group = std::mem::take(&mut begun.open);
                    begun.groups.push_back(group);
                }
            }
            Hopper::ProductWait { pending } => {
                whole("wgmma.wait_group")?;
                self.end_products(warp, pending);
            }
            Hopper::Product(ref product) => {
                self.together("wgmma", active, u32::MAX)?;
                self.product(warp, product)?;
            }
        }
        Ok(Request::None)
    }

    /// An operand's values in the lanes of `active`.
    fn all(&self, warp: &Warp, operand: Operand, active: u32) -> Result<Values> {
        Ok(*warp.fetch(operand, active, &mut [0; LANES], self)?)
    }

    fn stamp(&self, warp: &Warp) -> Stamp {
        Stamp { block: self.block, warp: warp.number, clock: warp.clock }
    }

    /// Checks an access to a barrier, which must exist and be known to the warp.
    pub(super) fn barrier(&mut self, warp: &mut Warp, address: u64, lane: usize) -> Result<()> {
        self.update(warp, Space::Shared, address, 8, lane, |bits| bits)?;
        if self.barriers.all.contains_key(&address) {
            return Ok(());
        }
        Err((Problem::Barrier { address, problem: "there is none".into() }, lane))
    }

    #[allow(clippy::too_many_arguments, reason = "an instruction's parts")]
    fn wait(
        &mut self,
        warp: &mut Warp,
        active: u32,
        d: Operand,
        at: Address,
        phase: Operand,
        parity: bool,
        may_sleep: bool,
    ) -> Result<Request> {
        let (at, phases) = (self.addresses(warp, at, active)?, self.all(warp, phase, active)?);
        let (mut done, mut request) = (0, Request::None);
        for lane in lanes(active) {
            let address = integer::low(32, at[lane]);
            self.barrier(warp, address, lane)?;
            let Some(barrier) = self.barriers.all.get_mut(&address) else { continue };
            barrier.land(self.shared, self.block, true).map_err(|problem| (problem, lane))?;
            let complete = if parity {
                u64::from(barrier.phase & 1) != phases[lane] & 1
            } else {
                u64::from(barrier.phase) > phases[lane]
            };
            if complete {
                done |= 1 << lane;
                join(&mut warp.clocks, &barrier.released.clocks);
                if let Some(begun) = &mut warp.begun {
                    join(&mut begun.fenced, &barrier.released.fenced);
                }
            } else if may_sleep {
                request = Request::Sleep(address, barrier.version);
            }
        }
        warp.put_mask(d, active, done, self.kernel);
        Ok(request)
    }
}
