//! Prefetches rows of keys and values at the pace at which attention reads.

use super::super::simd::Simd;
use super::by_key::ADDED;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Rows to prefetch, one after the other, some cache lines at a time.
pub(super) struct Prefetch<'a, K> {
    pub(super) rows: [&'a [K]; ADDED],
    row: usize,
    at: usize,
}

impl<K> Default for Prefetch<'_, K> {
    fn default() -> Self {
        Prefetch { rows: [&[]; ADDED], row: 0, at: 0 }
    }
}

impl<K> Prefetch<'_, K> {
    /// Prefetches the next `lines` lines.
    #[inline(always)]
    pub(super) fn advance<S: Simd>(&mut self, s: S, lines: usize) {
        let line = LINE / size_of::<K>();
        let mut left = lines * line;
        while left > 0
            && let Some(row) = self.rows.get(self.row)
        {
            let end = (self.at + left).min(row.len());
            let mut at = self.at;
            while at < end {
                s.prefetch(row.as_ptr().wrapping_add(at).cast());
                at += line;
            }
            left = left.saturating_sub(at - self.at);
            self.at = at;
            if at >= row.len() {
                (self.row, self.at) = (self.row + 1, 0);
            }
        }
    }
}
