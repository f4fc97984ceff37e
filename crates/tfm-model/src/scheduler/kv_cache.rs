//! The device memory of decoding: the caches of keys and values, which grow on demand.

use super::programs::copy_rows;
use super::ranges::FreeRanges;
use super::rows::FreeRows;
use crate::config::{Config, Heads};
use crate::transformer::{CacheRows, Network};
use std::ops::Range;
use tfm_core::{DType, DeviceTensor, HostSlice, Result, Session};

/// Rows of the cross-attention caches that no sentence has.
pub(super) const SPARE: usize = 3;

/// Rows of a cache at first.
const FIRST_ROWS: usize = 512;

/// How many rows a cache of `rows` rows gets where it needs `more`. They are twice as many at
/// least, so that it grows few times. Memory that nobody writes to is not taken from the system.
fn grown(rows: usize, more: usize) -> usize {
    (2 * rows).max(rows + more)
}

/// Keys and values of all sentences being decoded, and who has which rows.
pub(super) struct KvCache {
    pub(super) rows: FreeRows,
    pub(super) ranges: FreeRanges,
    cache_rows: CacheRows,
    /// By kind and layer: name and tensor, keys and values in turn.
    own: Vec<(String, DeviceTensor)>,
    cross: Vec<(String, DeviceTensor)>,
    /// The first of the [`SPARE`] rows of the cross-attention caches.
    spare: usize,
    /// Whether all caches of a kind have as many rows. Memory may run out while they grow.
    pub(super) is_whole: bool,
}

impl KvCache {
    pub(super) fn new(session: &mut Session, config: &Config, key_dtype: DType) -> Result<Self> {
        let cache_rows = CacheRows { own: FIRST_ROWS, cross: FIRST_ROWS };
        let mut ranges = FreeRanges::default();
        ranges.grow_to(cache_rows.cross);
        let spare = ranges.take(SPARE).expect("a new cache has room");
        let layers = config.decoder.layers;
        let new = |kind: &str, heads: &Heads, rows: usize| {
            allocate(session, kind, layers, key_dtype, [rows, heads.kv_count, heads.size])
        };
        let mut cache = KvCache {
            is_whole: true,
            rows: FreeRows::default(),
            ranges,
            cache_rows,
            own: new("self", &config.decoder.attention, cache_rows.own)?,
            cross: new("cross", &config.cross_attention, cache_rows.cross)?,
            spare,
        };
        cache.rows.grow_to(cache_rows.own);
        Ok(cache)
    }

    pub(super) fn cache_rows(&self) -> CacheRows {
        self.cache_rows
    }

    /// The [`SPARE`] rows of the cross-attention caches, for keys of tokens that nobody reads.
    pub(super) fn spare_rows(&self) -> Range<usize> {
        self.spare..self.spare + SPARE
    }

    /// Makes sure that `count` rows of the self-attention caches are free.
    pub(super) fn reserve_rows(&mut self, session: &mut Session, count: usize) -> Result<()> {
        if self.rows.available() >= count {
            return Ok(());
        }
        let rows = grown(self.cache_rows.own, count);
        self.is_whole = false;
        grow(session, "self", &mut self.own, rows)?;
        self.is_whole = true;
        self.cache_rows.own = rows;
        self.rows.grow_to(rows);
        Ok(())
    }

    /// The first row of a range of the cross-attention caches, which grow if they must.
    pub(super) fn take_range(&mut self, session: &mut Session, length: usize) -> Result<usize> {
        if let Some(start) = self.ranges.take(length) {
            return Ok(start);
        }
        let rows = grown(self.cache_rows.cross, length);
        self.is_whole = false;
        grow(session, "cross", &mut self.cross, rows)?;
        self.is_whole = true;
        self.cache_rows.cross = rows;
        self.ranges.grow_to(rows);
        Ok(self.ranges.take(length).expect("the cache grew by at least this much"))
    }

    /// All states, for a run.
    pub(super) fn states(&mut self) -> Vec<(&str, &mut DeviceTensor)> {
        let caches = self.own.iter_mut().chain(&mut self.cross);
        caches.map(|(name, tensor)| (name.as_str(), tensor)).collect()
    }
}

fn allocate(
    session: &Session,
    kind: &str,
    layers: usize,
    dtype: DType,
    shape: [usize; 3],
) -> Result<Vec<(String, DeviceTensor)>> {
    let names = (0..layers)
        .flat_map(|layer| ["key", "value"].map(|what| Network::cache_name(kind, layer, what)));
    names.map(|name| Ok((name, session.allocate(dtype, shape)?))).collect()
}

/// Replaces caches by larger ones with the same first rows, one after the other.
fn grow(
    session: &mut Session,
    kind: &str,
    caches: &mut [(String, DeviceTensor)],
    rows: usize,
) -> Result<()> {
    let shape = caches[0].1.shape().with_extent(0, rows);
    let (old_shape, key_dtype) = (caches[0].1.shape().clone(), caches[0].1.dtype());
    let ids: Vec<i32> = (0..old_shape[0] as i32).collect();
    let mut copy = None;
    for (name, old) in caches {
        debug_assert!(name.starts_with(kind));
        if session.enlarge(old, rows)? {
            continue;
        }
        let program = match &copy {
            Some(program) => program,
            None => copy.insert(copy_rows(session, key_dtype, &old_shape, &shape)?),
        };
        let mut new = session.allocate(key_dtype, shape.clone())?;
        session.run(
            program,
            &[("ids", HostSlice::I32(&ids))],
            &mut [("old", old), ("new", &mut new)],
        )?;
        *old = new;
    }
    Ok(())
}
