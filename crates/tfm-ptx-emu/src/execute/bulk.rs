//! Bulk copies: loads, which a barrier in shared memory counts, and stores, which come in groups.

use super::access::agent;
use super::{Machine, Result};
use crate::asynchronous::{Load, Store};
use crate::fault::Problem;
use crate::instruction::{Operand, Space};
use crate::integer;
use crate::memory::{Agent, STORES, Stamp};
use crate::tensor::TensorMap;
use crate::warp::Warp;

/// The alignment of a bulk copy's addresses and size; and the alignment of tiles in shared memory.
pub(super) const ALIGN: u64 = 16;
pub(super) const ALIGN_OF_TILES: u64 = 128;

/// What a tiled bulk copy copies: the map, and the tile's coordinates.
type Tile = (TensorMap, Vec<i64>);

impl Machine<'_> {
    /// The number of bytes of a bulk copy.
    pub(super) fn size(&self, bytes: u64, lane: usize) -> Result<usize> {
        let bytes = integer::low(32, bytes);
        if !bytes.is_multiple_of(ALIGN) || bytes > self.shared.len() as u64 {
            let problem = format!("a bulk copy of {bytes} bytes");
            return Err((Problem::Launch(problem), lane));
        }
        Ok(bytes as usize)
    }

    pub(super) fn aligned(
        &self,
        space: &'static str,
        address: u64,
        to: u64,
        bytes: usize,
        lane: usize,
    ) -> Result<()> {
        if address.is_multiple_of(to) {
            return Ok(());
        }
        Err((Problem::Misaligned { space, address, bytes }, lane))
    }

    /// The map at an address, and the coordinates that the registers hold.
    pub(super) fn tile(
        &mut self,
        warp: &mut Warp,
        map: u64,
        at: &[Operand],
        lane: usize,
    ) -> Result<Tile> {
        let mut bytes = [0; 128];
        for (i, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            self.read(warp, Space::Generic, map.wrapping_add(8 * i as u64), word, lane)?;
        }
        if !map.is_multiple_of(64) {
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

    pub(super) fn read_global(
        &mut self,
        warp: &Warp,
        address: u64,
        bytes: usize,
        lane: usize,
    ) -> Result<Vec<u8>> {
        let mut data = vec![0; bytes];
        let agent = agent!(self, warp, lane);
        let region = self.global.region(address, bytes);
        region
            .and_then(|region| region.read_bytes(address, &mut data, &agent))
            .map_err(|problem| (problem, lane))?;
        Ok(data)
    }

    pub(super) fn begin_load(
        &mut self,
        warp: &mut Warp,
        to: u64,
        bytes: Vec<u8>,
        address: u64,
        lane: usize,
    ) -> Result<()> {
        self.barrier(warp, address, lane)?;
        let fenced = warp.begun.as_ref().map_or(&[][..], |begun| &begun.fenced);
        let agent = Agent { fenced: Some(fenced), ..agent!(self, warp, lane) };
        let Some(barrier) = self.barriers.all.get_mut(&address) else { return Ok(()) };
        // The asynchronous proxy must know that the barrier was made.
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

    /// The bytes that a bulk store reads from shared memory.
    pub(super) fn stored(
        &mut self,
        warp: &mut Warp,
        from: u64,
        bytes: usize,
        lane: usize,
    ) -> Result<Vec<u8>> {
        let mut data = vec![0; bytes];
        let Some(begun) = &mut warp.begun else { return Ok(data) };
        begun.stores += 1;
        let stamp = Stamp { block: self.block, warp: STORES + warp.number, clock: begun.stores };
        let fenced = Some(&begun.fenced[..]);
        let agent = Agent { stamp, fenced, ..agent!(self, warp, lane) };
        let read = self.shared.read_bytes(from, &mut data, &agent);
        read.map_err(|problem| (problem, lane))?;
        Ok(data)
    }

    pub(super) fn begin_store(
        &mut self,
        warp: &mut Warp,
        rows: Vec<(u64, Vec<u8>)>,
        lane: usize,
    ) -> Result<()> {
        let Some(begun) = &mut warp.begun else { return Ok(()) };
        let mut store = Store { number: begun.stores, rows };
        if !self.lazy {
            let rows = std::mem::take(&mut store.rows);
            self.write_global(warp, &rows, lane)?;
        }
        if let Some(begun) = &mut warp.begun {
            begun.lanes.entry(lane).or_default().open.push(store);
        }
        Ok(())
    }

    fn write_global(&mut self, warp: &Warp, rows: &[(u64, Vec<u8>)], lane: usize) -> Result<()> {
        for (address, bytes) in rows {
            let agent = agent!(self, warp, lane);
            let region = self.global.region(*address, bytes.len());
            region
                .and_then(|region| region.write_bytes(*address, bytes, &agent))
                .map_err(|problem| (problem, lane))?;
        }
        Ok(())
    }

    pub(super) fn end_stores(
        &mut self,
        warp: &mut Warp,
        pending: usize,
        lane: usize,
    ) -> Result<()> {
        loop {
            let Some(stores) = warp.begun.as_mut().and_then(|begun| begun.lanes.get_mut(&lane))
            else {
                return Ok(());
            };
            if stores.groups.len() <= pending {
                break;
            }
            for store in stores.groups.pop_front().unwrap_or_default() {
                self.write_global(warp, &store.rows, lane)?;
            }
        }
        // All stores before the first that is left have been read.
        if let Some(begun) = &warp.begun {
            let left = begun.lanes.values().flat_map(|s| s.groups.iter().flatten().chain(&s.open));
            let oldest = left.map(|store| store.number).min().unwrap_or(begun.stores + 1);
            let agent = (STORES + warp.number) as usize;
            warp.clocks[agent] = warp.clocks[agent].max(oldest - 1);
        }
        Ok(())
    }
}
