//! Barriers in shared memory and bulk copies.

use super::access::agent;
use super::{Machine, Request, Result, first};
use crate::asynchronous::{Load, Store, join};
use crate::fault::Problem;
use crate::instruction::{Address, Hopper, Operand, Space};
use crate::integer;
use crate::memory::{Agent, MOST_BARRIERS, STORES, Stamp};
use crate::tensor::TensorMap;
use crate::warp::{LANES, Values, Warp, lanes};

/// Where bulk copies begin in shared memory, and the size of what is no tile.
const ALIGN: u64 = 16;
const ALIGN_OF_TILES: u64 = 128;

/// What a bulk copy of a tile copies: the map, and the place of the tile.
type Tile = (TensorMap, Vec<i64>);

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
                    warp.clocks[warp.number as usize] += 1;
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
                    let fenced = warp.begun.as_ref().map_or(&[][..], |begun| &begun.fenced);
                    let count = u32::try_from(counts[lane]).unwrap_or(0);
                    let done = match bytes[lane] {
                        0 => Ok(()),
                        bytes => barrier.expect(i64::from(bytes as u32)),
                    };
                    done.and_then(|()| barrier.arrive(count, may_complete, &warp.clocks, fenced))
                        .map_err(|problem| (Problem::Barrier { address, problem }, lane))?;
                }
                // What it does from here on is not ordered by the arrival.
                warp.clocks[warp.number as usize] += 1;
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
                    let data = self.from_global(warp, from[lane], bytes, lane)?;
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
                        let row = self.from_global(warp, address, bytes, lane)?;
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

    /// An operand's values.
    fn all(&self, warp: &Warp, operand: Operand, active: u32) -> Result<Values> {
        Ok(*warp.fetch(operand, active, &mut [0; LANES], self)?)
    }

    fn stamp(&self, warp: &Warp) -> Stamp {
        let clock = warp.clocks[warp.number as usize];
        Stamp { block: self.block, warp: warp.number, clock }
    }

    /// Touches a barrier, which must be there and known to the warp.
    fn barrier(&mut self, warp: &mut Warp, address: u64, lane: usize) -> Result<()> {
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

    /// The number of bytes of a bulk copy.
    fn size(&self, bytes: u64, lane: usize) -> Result<usize> {
        let bytes = integer::low(32, bytes);
        if bytes % ALIGN != 0 || bytes > self.shared.len() as u64 {
            let problem = format!("a bulk copy of {bytes} bytes");
            return Err((Problem::Launch(problem), lane));
        }
        Ok(bytes as usize)
    }

    fn aligned(
        &self,
        space: &'static str,
        address: u64,
        to: u64,
        bytes: usize,
        lane: usize,
    ) -> Result<()> {
        if address % to == 0 {
            return Ok(());
        }
        Err((Problem::Misaligned { space, address, bytes }, lane))
    }

    /// The map at an address, and the place that registers say.
    fn tile(&mut self, warp: &mut Warp, map: u64, at: &[Operand], lane: usize) -> Result<Tile> {
        let mut bytes = [0; 128];
        for (i, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            self.read(warp, Space::Generic, map.wrapping_add(8 * i as u64), word, lane)?;
        }
        if map % 64 != 0 {
            let problem = Problem::Misaligned { space: "generic", address: map, bytes: 64 };
            return Err((problem, lane));
        }
        let map = TensorMap::decode(&bytes).map_err(|problem| (problem, lane))?;
        let places: Result<Vec<i64>> =
            at.iter().map(|at| Ok(i64::from(self.of_lane(warp, *at, lane)? as i32))).collect();
        let places = places?;
        if places.len() != map.extents.len() {
            let problem =
                format!("a map of {} dimensions, {} coordinates", map.extents.len(), places.len());
            return Err((Problem::Launch(problem), lane));
        }
        if map.bytes() > self.shared.len() {
            let (bytes, address) = (map.bytes(), 0);
            return Err((Problem::OutOfBounds { space: "shared", address, bytes }, lane));
        }
        Ok((map, places))
    }

    fn from_global(
        &mut self,
        warp: &Warp,
        address: u64,
        bytes: usize,
        lane: usize,
    ) -> Result<Vec<u8>> {
        let mut data = vec![0; bytes];
        let agent = agent!(self, warp);
        let region = self.global.region(address, bytes);
        region
            .and_then(|region| region.read_bytes(address, &mut data, &agent))
            .map_err(|problem| (problem, lane))?;
        Ok(data)
    }

    fn begin_load(
        &mut self,
        warp: &mut Warp,
        to: u64,
        bytes: Vec<u8>,
        address: u64,
        lane: usize,
    ) -> Result<()> {
        self.barrier(warp, address, lane)?;
        let fenced = warp.begun.as_ref().map_or(&[][..], |begun| &begun.fenced);
        let agent = Agent { fenced: Some(fenced), ..agent!(self, warp) };
        let Some(barrier) = self.barriers.all.get_mut(&address) else { return Ok(()) };
        // That the barrier was made must be known to the asynchronous proxy.
        let made =
            fenced.get(barrier.made.warp as usize).is_some_and(|at| *at >= barrier.made.clock);
        if !made {
            return Err((Problem::Unfenced { address }, lane));
        }
        self.shared.begin_bulk(to, bytes.len(), &agent).map_err(|problem| (problem, lane))?;
        barrier.loads.push(Load { to, bytes });
        barrier.version += 1;
        if !self.lazy {
            barrier.land(self.shared, self.block, false).map_err(|problem| (problem, lane))?;
        }
        Ok(())
    }

    /// What a bulk store takes of shared memory.
    fn stored(&mut self, warp: &mut Warp, from: u64, bytes: usize, lane: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; bytes];
        let Some(begun) = &mut warp.begun else { return Ok(data) };
        begun.stores += 1;
        let stamp = Stamp { block: self.block, warp: STORES + warp.number, clock: begun.stores };
        let fenced = Some(&begun.fenced[..]);
        let agent = Agent { stamp, known: &warp.clocks, first_block: self.first_block, fenced };
        let read = self.shared.read_bytes(from, &mut data, &agent);
        read.map_err(|problem| (problem, lane))?;
        Ok(data)
    }

    fn begin_store(
        &mut self,
        warp: &mut Warp,
        rows: Vec<(u64, Vec<u8>)>,
        lane: usize,
    ) -> Result<()> {
        let Some(begun) = &mut warp.begun else { return Ok(()) };
        let mut store = Store { number: begun.stores, rows };
        if !self.lazy {
            let rows = std::mem::take(&mut store.rows);
            self.to_global(warp, &rows, lane)?;
        }
        if let Some(begun) = &mut warp.begun {
            begun.lanes.entry(lane).or_default().open.push(store);
        }
        Ok(())
    }

    fn to_global(&mut self, warp: &Warp, rows: &[(u64, Vec<u8>)], lane: usize) -> Result<()> {
        for (address, bytes) in rows {
            let agent = agent!(self, warp);
            let region = self.global.region(*address, bytes.len());
            region
                .and_then(|region| region.write_bytes(*address, bytes, &agent))
                .map_err(|problem| (problem, lane))?;
        }
        Ok(())
    }

    fn end_stores(&mut self, warp: &mut Warp, pending: usize, lane: usize) -> Result<()> {
        loop {
            let Some(stores) = warp.begun.as_mut().and_then(|begun| begun.lanes.get_mut(&lane))
            else {
                return Ok(());
            };
            if stores.groups.len() <= pending {
                break;
            }
            for store in stores.groups.pop_front().unwrap_or_default() {
                self.to_global(warp, &store.rows, lane)?;
            }
        }
        // Whatever came before the first that is left has been read.
        if let Some(begun) = &warp.begun {
            let left = begun.lanes.values().flat_map(|s| s.groups.iter().flatten().chain(&s.open));
            let oldest = left.map(|store| store.number).min().unwrap_or(begun.stores + 1);
            let agent = (STORES + warp.number) as usize;
            warp.clocks[agent] = warp.clocks[agent].max(oldest - 1);
        }
        Ok(())
    }
}

/// No more barriers than agents that write for them.
const _: () = assert!(MOST_BARRIERS <= 64);
