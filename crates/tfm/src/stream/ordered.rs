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
    /// Takes the item number `id` (each number comes once) and yields all that are next, in their order.
    pub(super) fn put(&mut self, id: usize, item: T) -> impl Iterator<Item = T> {
        self.early.insert(id, item);
        std::iter::from_fn(move || {
            let item = self.early.remove(&self.next)?;
            self.next += 1;
            Some(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Ordered;

    #[test]
    fn what_comes_early_waits() {
        let mut ordered = Ordered::default();
        let mut left = Vec::new();
        for id in [2, 0, 1, 4, 3] {
            left.push(ordered.put(id, id).collect::<Vec<_>>());
        }
        assert_eq!(left, [vec![], vec![0], vec![1, 2], vec![], vec![3, 4]]);
    }
}
