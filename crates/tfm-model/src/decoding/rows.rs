//! Which rows of the self-attention pool are free.

/// The free rows of a pool, handed out one by one.
#[derive(Debug, Default)]
pub(super) struct FreeRows {
    free: Vec<u32>,
    rows: usize,
}

impl FreeRows {
    /// The pool now has `rows` rows; those that are new are free.
    pub(super) fn grow_to(&mut self, rows: usize) {
        self.free.extend((self.rows as u32..rows as u32).rev());
        self.rows = rows;
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
}
