//! A matrix with contiguous rows that may be any distance apart.

/// `rows` rows of `cols` elements. Each row begins `stride` elements after the one before.
///
/// The stride may be less than `cols`, and 0 repeats one row, since nothing is written through it.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// Panics if `data` is too short for the last row.
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        // Rows without elements need no memory, whatever their stride.
        let stride = if cols == 0 { 0 } else { stride };
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + cols };
        assert!(data.len() >= needed, "{rows} rows need {needed} elements, not {}", data.len());
        Rows { data, rows, cols, stride }
    }

    /// Rows without gaps between them.
    pub fn contiguous(data: &'a [T], cols: usize) -> Self {
        let rows = data.len().checked_div(cols).unwrap_or(0);
        Rows::new(data, rows, cols, cols)
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The elements in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The distance between the starts of neighbouring rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `i`.
    #[inline(always)]
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows);
        &self.data[i * self.stride..][..self.cols]
    }
}
