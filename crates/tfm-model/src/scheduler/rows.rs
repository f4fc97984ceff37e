//! Which rows of the self-attention caches are free.

/// The free rows of a cache, handed out one by one.
#[derive(Debug, Default)]
pub(super) struct FreeRows {
    free: Vec<u32>,
    rows: usize,
    /// For each row the number of the last call of [`FreeRows::keep`] that was told to keep it.
    kept: Vec<u32>,
    calls: u32,
}

impl FreeRows {
    /// The cache now has `rows` rows; those that are new are free.
    pub(super) fn grow_to(&mut self, rows: usize) {
        self.free.extend((self.rows as u32..rows as u32).rev());
        self.rows = rows;
        self.kept.resize(rows, 0);
    }

    /// How many rows are free.
    pub(super) fn available(&self) -> usize {
        self.free.len()
    }

    /// A free row. The caller has asked [`FreeRows::available`].
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().expect("the caller made room")
    }

    /// Frees rows.
    pub(super) fn give_back(&mut self, rows: impl IntoIterator<Item = u32>) {
        self.free.extend(rows);
    }

    /// Frees those of `taken` that are not among `used`.
    pub(super) fn keep(&mut self, taken: &mut Vec<u32>, used: impl Iterator<Item = u32>) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls == 0 {
            self.kept.fill(0);
            self.calls = 1;
        }
        used.for_each(|row| self.kept[row as usize] = self.calls);
        taken.retain(|&row| {
            let is_kept = self.kept[row as usize] == self.calls;
            if !is_kept {
                self.free.push(row);
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_is_free_again() {
        let mut rows = FreeRows::default();
        rows.grow_to(8);
        let mut taken: Vec<u32> = (0..6).map(|_| rows.take()).collect();
        rows.keep(&mut taken, [1, 4, 1].into_iter());
        assert_eq!((taken.clone(), rows.available()), (vec![1, 4], 6));
        rows.keep(&mut taken, [4].into_iter());
        assert_eq!((taken.clone(), rows.available()), (vec![4], 7));
        rows.give_back(taken);
        rows.grow_to(9);
        let mut all: Vec<u32> = (0..9).map(|_| rows.take()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
    }
}
