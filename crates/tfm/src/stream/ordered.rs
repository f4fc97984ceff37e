//! Results that come in any order leave in theirs.

use std::collections::BTreeMap;

/// Holds what came too early.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    next: usize,
    early: BTreeMap<usize, T>,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered { next: 0, early: BTreeMap::new() }
    }
}

impl<T> Ordered<T> {
    /// Takes the item of that number. Each number comes once.
    pub(super) fn put(&mut self, number: usize, item: T) {
        self.early.insert(number, item);
    }

    /// The next item, if it has come.
    pub(super) fn next(&mut self) -> Option<T> {
        let item = self.early.remove(&self.next)?;
        self.next += 1;
        Some(item)
    }

    /// How many have left.
    pub(super) fn taken(&self) -> usize {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::Ordered;

    #[test]
    fn what_comes_early_waits() {
        let mut ordered = Ordered::default();
        let mut left = Vec::new();
        for number in [2, 0, 1, 4, 3] {
            ordered.put(number, number);
            left.push(std::iter::from_fn(|| ordered.next()).collect::<Vec<_>>());
        }
        assert_eq!(left, [vec![], vec![0], vec![1, 2], vec![], vec![3, 4]]);
        assert_eq!(ordered.taken(), 5);
    }
}
