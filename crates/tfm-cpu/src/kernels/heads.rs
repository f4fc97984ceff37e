//! Queries, keys and values as attention sees them: rows of heads.

/// `[rows, heads, size]` with contiguous heads, at any distance from row to row and head to head, as
/// they lie in a joined projection's output.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    data: &'a [f32],
    rows: usize,
    heads: usize,
    size: usize,
    row_stride: usize,
    head_stride: usize,
}

impl<'a> Heads<'a> {
    /// Panics when `data` is too short for the last head of the last row.
    pub fn new(
        data: &'a [f32],
        [rows, heads, size]: [usize; 3],
        [row_stride, head_stride]: [usize; 2],
    ) -> Self {
        // Heads without elements lie nowhere, whatever their strides.
        let [row_stride, head_stride] = if size == 0 { [0; 2] } else { [row_stride, head_stride] };
        if rows > 0 && heads > 0 {
            let needed = (rows - 1) * row_stride + (heads - 1) * head_stride + size;
            assert!(data.len() >= needed, "the heads need {needed} elements, not {}", data.len());
        }
        Heads { data, rows, heads, size, row_stride, head_stride }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of heads in a row.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// The elements of a head.
    pub fn size(&self) -> usize {
        self.size
    }

    /// One head of one row.
    #[inline(always)]
    pub fn head(&self, row: usize, head: usize) -> &'a [f32] {
        assert!(row < self.rows && head < self.heads);
        &self.data[row * self.row_stride + head * self.head_stride..][..self.size]
    }

    /// All heads of one row: head h begins at `h · head_stride()`.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert!(row < self.rows && self.heads > 0);
        let len = (self.heads - 1) * self.head_stride + self.size;
        &self.data[row * self.row_stride..][..len]
    }

    /// Elements from head to head.
    pub fn head_stride(&self) -> usize {
        self.head_stride
    }
}
