//! Queries, keys and values as attention sees them: rows of heads.

use half::bf16;

use super::simd::Simd;

/// A type in which keys and values are kept. Attention computes with `f32`, which holds it exactly.
pub trait HeadElement: Copy + Send + Sync + 'static {
    /// The first `LANES` elements of `x`. Panics if there are fewer.
    fn load<S: Simd>(s: S, x: &[Self]) -> S::F;
    /// The elements of `x` (at most `LANES` of them), the other lanes zero.
    fn load_partial<S: Simd>(s: S, x: &[Self]) -> S::F;
}

impl HeadElement for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[f32]) -> S::F {
        s.load(x)
    }
    #[inline(always)]
    fn load_partial<S: Simd>(s: S, x: &[f32]) -> S::F {
        s.load_partial(x)
    }
}

impl HeadElement for bf16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[bf16]) -> S::F {
        s.load_bf16(x)
    }
    #[inline(always)]
    fn load_partial<S: Simd>(s: S, x: &[bf16]) -> S::F {
        s.load_bf16_partial(x)
    }
}

/// `[rows, heads, size]` with contiguous heads, as they lie in a joined projection's output. Rows
/// and heads may be any distance apart.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    heads: usize,
    size: usize,
    row_stride: usize,
    head_stride: usize,
}

impl<'a, T: HeadElement> Heads<'a, T> {
    /// Panics if `data` is too short for the last head of the last row.
    pub fn new(
        data: &'a [T],
        [rows, heads, size]: [usize; 3],
        [row_stride, head_stride]: [usize; 2],
    ) -> Self {
        // Heads without elements need no memory, whatever their strides.
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
    pub fn head(&self, row: usize, head: usize) -> &'a [T] {
        assert!(row < self.rows && head < self.heads);
        &self.data[row * self.row_stride + head * self.head_stride..][..self.size]
    }

    /// All heads of one row: head h begins at `h · head_stride()`.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [T] {
        assert!(row < self.rows && self.heads > 0);
        let len = (self.heads - 1) * self.head_stride + self.size;
        &self.data[row * self.row_stride..][..len]
    }

    /// Elements from head to head.
    pub fn head_stride(&self) -> usize {
        self.head_stride
    }
}
