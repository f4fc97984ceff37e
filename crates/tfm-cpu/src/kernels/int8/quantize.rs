//! Rows of activations as 8-bit integers, each row with its own scale.

use std::collections::TryReserveError;

use super::super::rows::Rows;
use super::super::scratch::{Borrowed, Scratch};
use super::super::simd::Simd;
use super::super::threads::{SharedMut, Threads, share};
use super::{Dot, DotIsa, DotKernel, ROW_MULTIPLE};

/// The largest magnitude of a quantised number.
const LARGEST: f32 = tfm_core::fused::quantized::LARGEST as f32;

/// Rows as integers: `x[i, p] ≈ scale(i)·q[i, p]` with `|q| ≤ 127`. The scale of a row of zeros is
/// 0; that of a row with a NaN or ∞ is NaN.
pub struct QuantizedRows<'a> {
    /// The scales, followed by the rows' inputs in the form in which the instruction set stores
    /// them.
    memory: Borrowed<'a>,
    rows: usize,
    cols: usize,
}

impl<'a> QuantizedRows<'a> {
    /// Quantises rows for products on `isa`.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(
        isa: DotIsa,
        threads: &Threads,
        scratch: &'a Scratch,
        x: Rows<'_>,
    ) -> Result<Self, TryReserveError> {
        let (rows, cols) = (x.rows(), x.cols());
        let words = isa.run(Words { cols });
        let mut memory = scratch.take(first_row(rows) + rows * words)?;
        let (scales, inputs) = memory.split_at_mut(first_row(rows));
        let (scales, inputs) = (SharedMut::new(scales), SharedMut::new(inputs));
        let tasks = threads.tasks((rows * cols).saturating_mul(8), rows);
        threads.run(tasks, |task| {
            let mine = share(rows, tasks, task);
            // SAFETY: tasks have different rows.
            let (scales, inputs) = unsafe {
                (scales.slice(mine.clone()), inputs.slice(mine.start * words..mine.end * words))
            };
            isa.run(Quantize { x, first: mine.start, scales, inputs });
        });
        Ok(QuantizedRows { memory, rows, cols })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The inputs of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The scales of the rows.
    pub fn scales(&self) -> &[f32] {
        &self.memory[..self.rows]
    }

    /// The inputs of a row, followed by zeros up to a multiple of [`ROW_MULTIPLE`]. `D` must be the
    /// set that they were quantised for.
    #[inline(always)]
    pub(super) fn row<D: Dot>(&self, row: usize) -> &[D::Input] {
        assert!(row < self.rows);
        let (len, words) = (padded(self.cols), words::<D>(self.cols));
        let data = &self.memory[first_row(self.rows) + row * words..][..words];
        // SAFETY: these are plain numbers. They fit into the words, and the words are aligned
        // more strictly.
        unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), len) }
    }

    /// All rows, one behind the other, [`row_bytes`](QuantizedRows::row_bytes) apart. `D` as in
    /// [`row`](QuantizedRows::row).
    #[inline(always)]
    pub(super) fn all<D: Dot>(&self) -> &[D::Input] {
        let bytes = self.rows * self.row_bytes::<D>();
        let data = &self.memory[first_row(self.rows)..][..bytes / size_of::<f32>()];
        // SAFETY: as in `row`.
        unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), bytes / size_of::<D::Input>()) }
    }

    /// Bytes from one row to the next.
    pub(super) fn row_bytes<D: Dot>(&self) -> usize {
        words::<D>(self.cols) * size_of::<f32>()
    }
}

/// Where the rows begin: at the first cache line behind the scales.
fn first_row(rows: usize) -> usize {
    rows.next_multiple_of(16)
}

fn padded(cols: usize) -> usize {
    cols.next_multiple_of(ROW_MULTIPLE)
}

/// Words of 32 bits from one row to the next. Rows that are a multiple of this apart would fall on
/// a few lines of the first-level cache.
fn words<D: Dot>(cols: usize) -> usize {
    const CRITICAL: usize = 1024 / size_of::<f32>();
    const LINE: usize = 64 / size_of::<f32>();
    let words = padded(cols) * size_of::<D::Input>() / size_of::<f32>();
    words + if words > 0 && words.is_multiple_of(CRITICAL) { LINE } else { 0 }
}

/// Calls [`words`] for the instruction set.
struct Words {
    cols: usize,
}

impl DotKernel for Words {
    type Output = usize;

    #[inline(always)]
    fn run<D: Dot>(self, _: D) -> usize {
        words::<D>(self.cols)
    }
}

struct Quantize<'a> {
    x: Rows<'a>,
    first: usize,
    scales: &'a mut [f32],
    inputs: &'a mut [f32],
}

impl DotKernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot>(self, d: D) {
        let words = words::<D>(self.x.cols());
        if words == 0 {
            return self.scales.fill(0.0);
        }
        let rows = self.scales.iter_mut().zip(self.inputs.chunks_exact_mut(words));
        for (row, (scale, words)) in (self.first..).zip(rows) {
            let len = padded(self.x.cols());
            // SAFETY: as in `row`; every bit pattern is a number.
            let inputs: &mut [D::Input] =
                unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) };
            *scale = quantize(d, self.x.row(row), inputs);
        }
    }
}

/// Chains of operations that do not wait for one another.
const CHAINS: usize = 4;

/// Quantises a row and returns its scale. `out` has the length that [`padded`] says.
#[inline(always)]
fn quantize<D: Dot>(d: D, x: &[f32], out: &mut [D::Input]) -> f32 {
    let s = d.floats();
    let lanes = <D::Floats as Simd>::LANES;
    // Several chains of maxima and sums, since each operation of a chain waits for the one before.
    let (mut largest, mut check) = ([s.splat(0.0); CHAINS], [s.splat(0.0); CHAINS]);
    let mut blocks = x.chunks_exact(CHAINS * lanes);
    for block in &mut blocks {
        for (i, x) in block.chunks_exact(lanes).enumerate() {
            let x = s.load(x);
            largest[i] = s.max(s.abs(x), largest[i]);
            check[i] = s.fma(x, s.splat(0.0), check[i]);
        }
    }
    for (i, x) in blocks.remainder().chunks(lanes).enumerate() {
        let x = s.load_partial(x);
        largest[i] = s.max(s.abs(x), largest[i]);
        check[i] = s.fma(x, s.splat(0.0), check[i]);
    }
    let largest = s.max(s.max(largest[0], largest[1]), s.max(largest[2], largest[3]));
    let check = s.add(s.add(check[0], check[1]), s.add(check[2], check[3]));
    let largest = s.max_lane(largest);
    let factor = s.splat(if largest > 0.0 { LARGEST / largest } else { 0.0 });
    let mut whole = x.chunks_exact(lanes);
    let mut at = 0;
    for x in &mut whole {
        d.store_inputs(s.mul(s.load(x), factor), &mut out[at..]);
        at += lanes;
    }
    let mut rest = whole.remainder();
    while at < out.len() {
        d.store_inputs(s.mul(s.load_partial(rest), factor), &mut out[at..]);
        rest = &[];
        at += lanes;
    }
    // The sum is 0 if every number is finite, and NaN otherwise.
    largest / LARGEST + s.sum(check)
}
