//! Which ranges of the cross-attention caches are free.

use std::collections::BTreeMap;

/// The free ranges of a cache: first fit, neighbours merged.
#[derive(Debug, Default)]
pub(super) struct FreeRanges {
    /// Start and length of each free range; no two touch.
    free: BTreeMap<usize, usize>,
    rows: usize,
}

impl FreeRanges {
    /// The cache now has `rows` rows; those that are new are free.
    pub(super) fn grow_to(&mut self, rows: usize) {
        let old = std::mem::replace(&mut self.rows, rows);
        self.give_back(old, rows - old);
    }

    /// The start of `length` free rows, now taken, or `None`.
    pub(super) fn take(&mut self, length: usize) -> Option<usize> {
        if length == 0 {
            return Some(0);
        }
        let (start, free) = self
            .free
            .iter()
            .map(|(&start, &free)| (start, free))
            .find(|(_, free)| *free >= length)?;
        self.free.remove(&start);
        if free > length {
            self.free.insert(start + length, free - length);
        }
        Some(start)
    }

    /// Frees a range.
    pub(super) fn give_back(&mut self, mut start: usize, mut length: usize) {
        if length == 0 {
            return;
        }
        if let Some((&before, &free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            self.free.remove(&before);
            (start, length) = (before, free + length);
        }
        if let Some(after) = self.free.remove(&(start + length)) {
            length += after;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Taken ranges never overlap, and when all are given back the cache is whole again.
        #[test]
        fn ranges_are_disjoint_and_come_back(steps in proptest::collection::vec((any::<bool>(), 0usize..9), 1..80)) {
            let mut ranges = FreeRanges::default();
            ranges.grow_to(20);
            ranges.grow_to(32);
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (give_back, size) in steps {
                if give_back && !taken.is_empty() {
                    let (start, length) = taken.swap_remove(size % taken.len());
                    ranges.give_back(start, length);
                } else if let Some(start) = ranges.take(size) {
                    prop_assert!(start + size <= 32);
                    for &(other, length) in &taken {
                        prop_assert!(size == 0 || length == 0 || start + size <= other || other + length <= start);
                    }
                    taken.push((start, size));
                }
            }
            for (start, length) in taken {
                ranges.give_back(start, length);
            }
            prop_assert_eq!(ranges.take(32), Some(0));
        }
    }
}
