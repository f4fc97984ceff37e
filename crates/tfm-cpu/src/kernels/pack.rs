//! The weight of a linear layer, stored in the order in which the product reads it.

use std::collections::TryReserveError;

use super::aligned::{Aligned, Zeroed};
use super::columns::{Columns, PANELS_TOGETHER, pack_panels};
use super::pairs::{self, Pair, PairPanels};
use super::selection::Identity;
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads, share};

mod select;

/// Vectors in the width of a panel.
pub const PANEL_VECTORS: usize = 2;

/// A matrix `[n, k]` in memory: its element (output column `j`, input `p`) is
/// `data[j·column_stride + p·input_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// The elements from the matrix's first one on.
    pub data: &'a [f32],
    /// The number of output columns.
    pub n: usize,
    /// The number of inputs.
    pub k: usize,
    /// Elements from one output column to the next.
    pub column_stride: usize,
    /// Elements from one input to the next.
    pub input_stride: usize,
}

/// An element of a packed weight.
pub trait Weight: Copy + Send + Sync + 'static {
    /// The number of inputs whose weights an element holds.
    const INPUTS: usize;
    /// The number of floats in which the product finds these inputs.
    const FLOATS: usize;

    /// The elements at `w` in the lanes of a vector.
    ///
    /// # Safety
    /// `w` must be readable for a vector's elements.
    unsafe fn load<S: Simd>(s: S, w: *const Self) -> S::F;
    /// The part of the elements that is multiplied by one of their inputs' floats.
    #[inline(always)]
    fn part<S: Simd>(_: S, w: S::F, _float: usize) -> S::F {
        w
    }
    /// `acc + x·w` in each lane, where w is a [`part`](Weight::part).
    #[inline(always)]
    fn add_product<S: Simd>(s: S, acc: S::F, x: S::F, w: S::F) -> S::F {
        s.fma(x, w, acc)
    }
    /// Writes the element's numbers, as many as fit in `out`.
    fn numbers(self, out: &mut [f32]);
}

impl Weight for f32 {
    const INPUTS: usize = 1;
    const FLOATS: usize = 1;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, w: *const f32) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_ptr(w) }
    }
    fn numbers(self, out: &mut [f32]) {
        out.fill(self);
    }
}

/// `W [n, k]` as panels of `2·lanes` output columns: `[⌈n / width⌉, words, width]`, where each
/// element holds the weights of [`INPUTS`](Weight::INPUTS) inputs. The product reads it from front
/// to back. The columns and inputs that fill up the panels are zero.
#[derive(Clone, Copy, Debug)]
pub struct Panels<'a, W = f32> {
    isa: Isa,
    n: usize,
    k: usize,
    width: usize,
    data: &'a [W],
}

impl<'a> Panels<'a> {
    /// The number of elements in the panels of a matrix `[n, k]`.
    pub fn elements(isa: Isa, n: usize, k: usize) -> usize {
        let width = PANEL_VECTORS * isa.lanes();
        n.div_ceil(width) * width * k
    }

    /// Packs `weight` into the first [`elements`](Panels::elements) of `memory`, for products on
    /// `isa`. Panics if `memory` is shorter.
    pub fn pack(isa: Isa, threads: &Threads, weight: Strided<'_>, memory: &'a mut [f32]) -> Self {
        let Strided { n, k, .. } = weight;
        let width = PANEL_VECTORS * isa.lanes();
        let data = &mut memory[..Panels::elements(isa, n, k)];
        let panels = data.len().checked_div(width * k).unwrap_or(0);
        // Packing an element takes as long as some ten operations of a product.
        let tasks = threads.tasks(10 * data.len(), panels.div_ceil(LEAST_PANELS));
        let shared = SharedMut::new(data);
        threads.run(tasks, |task| {
            let mine = share(panels, tasks, task);
            // SAFETY: tasks have different panels.
            let out = unsafe { shared.slice(mine.start * width * k..mine.end * width * k) };
            if !out.is_empty() {
                isa.run(Pack { weight, first: mine.start * width, out });
            }
        });
        Panels { isa, n, k, width, data }
    }
}

impl<'a, W: Weight> Panels<'a, W> {
    /// The instruction set that the panels are made for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of output columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Elements of an output column.
    pub fn words(&self) -> usize {
        self.k.div_ceil(W::INPUTS)
    }

    /// Output columns of a panel.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of panels.
    pub fn count(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    /// The panels from `i` on: each is `[words, width]`.
    pub fn from(&self, i: usize) -> &'a [W] {
        &self.data[i * self.words() * self.width..]
    }

    /// The same panels with other elements.
    pub(super) fn map<V>(&self, elements: impl FnOnce(&'a [W]) -> &'a [V]) -> Panels<'a, V> {
        let Panels { isa, n, k, width, data } = *self;
        Panels { isa, n, k, width, data: elements(data) }
    }

    /// The weights of output column `j`: a row of the matrix. Panics if `out` does not have `k`
    /// elements.
    pub fn row(&self, j: usize, out: &mut [f32]) {
        assert!(j < self.n && out.len() == self.k);
        let words = self.from(j / self.width).chunks_exact(self.width);
        let numbers = out.chunks_mut(W::INPUTS);
        numbers.zip(words).for_each(|(out, words)| words[j % self.width].numbers(out));
    }
}

/// [`Panels`] that own their memory.
#[derive(Debug)]
pub struct PackedWeight<W = f32> {
    identity: Identity,
    isa: Isa,
    n: usize,
    k: usize,
    data: Aligned<W>,
}

impl PackedWeight {
    /// Packs a matrix for products on `isa`.
    ///
    /// # Errors
    /// There is no memory for the panels.
    pub fn new(
        isa: Isa,
        threads: &Threads,
        weight: impl Columns,
    ) -> Result<PackedWeight, TryReserveError> {
        packed(isa, threads, weight, 0, |isa, part, out, _| {
            isa.run(Pack { weight: part, first: 0, out });
        })
    }
}

impl PackedWeight<Pair> {
    /// Packs a matrix for products on `isa`, with its elements rounded to `bf16`.
    ///
    /// # Errors
    /// There is no memory for the panels.
    pub fn rounded(
        isa: Isa,
        threads: &Threads,
        weight: impl Columns,
    ) -> Result<PackedWeight<Pair>, TryReserveError> {
        let (inputs, width) = (weight.extents()[1], PANEL_VECTORS * isa.lanes());
        packed(isa, threads, weight, Pair::INPUTS, |isa, part, out, wide| {
            if inputs > 0 {
                let panels = out.len() / (pairs::words(inputs) * width);
                let wide = &mut wide[..panels * inputs * width];
                isa.run(Pack { weight: part, first: 0, out: wide });
                isa.run(PairPanels { wide, inputs, width, out });
            }
        })
    }
}

/// Packs a matrix, some panels at a time. `pack` makes panels of their columns; it gets `floats`
/// floats of memory for each of their elements.
fn packed<W: Weight + Zeroed>(
    isa: Isa,
    threads: &Threads,
    weight: impl Columns,
    floats: usize,
    pack: impl Fn(Isa, Strided<'_>, &mut [W], &mut [f32]) + Sync,
) -> Result<PackedWeight<W>, TryReserveError> {
    let [n, k] = weight.extents();
    let width = PANEL_VECTORS * isa.lanes();
    let (words, size) = (k.div_ceil(W::INPUTS), width * k.div_ceil(W::INPUTS));
    let mut data = Aligned::new(Panels::elements(isa, n, words))?;
    let panels = data.len().checked_div(size).unwrap_or(0);
    let shared = SharedMut::new(&mut data);
    let memory = weight.memory(width) + floats * size;
    // Packing an element takes as long as some ten operations of a product.
    pack_panels(threads, panels, 10 * size, memory, |mine, memory| {
        let columns = mine.start * width..n.min(mine.end * width);
        // SAFETY: calls have different panels.
        let out = unsafe { shared.slice(mine.start * size..mine.end * size) };
        let (floats, memory) = memory.split_at_mut(floats * out.len());
        pack(isa, weight.part(columns, memory), out, floats);
    })?;
    Ok(PackedWeight { identity: Identity::new(), isa, n, k, data })
}

impl<W: Weight> PackedWeight<W> {
    /// The panels.
    pub fn panels(&self) -> Panels<'_, W> {
        let width = PANEL_VECTORS * self.isa.lanes();
        Panels { isa: self.isa, n: self.n, k: self.k, width, data: &self.data }
    }
}

impl<'a, W: Weight> From<&'a PackedWeight<W>> for Panels<'a, W> {
    fn from(weight: &'a PackedWeight<W>) -> Panels<'a, W> {
        weight.panels()
    }
}

/// Whole panels that begin at output column `first`.
struct Pack<'a> {
    weight: Strided<'a>,
    first: usize,
    out: &'a mut [f32],
}

/// The fewest panels that one task fills. Where output columns are neighbours in memory, a task
/// should read more than a few cache lines of each page.
const LEAST_PANELS: usize = 4;

/// Elements of a cache line.
const LINE: usize = 16;

/// How many inputs ahead packing prefetches where output columns are neighbours in memory.
const ROWS_AHEAD: usize = 8;
/// How many cache lines ahead packing prefetches where inputs are neighbours in memory.
const LINES_AHEAD: usize = 4;

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Pack { weight, first, out } = self;
        let width = PANEL_VECTORS * S::LANES;
        let size = width * weight.k;
        let columns = |panel: usize| width.min(weight.n - first - panel * width);
        if weight.column_stride == 1 {
            for (group, out) in out.chunks_mut(PANELS_TOGETHER * size).enumerate() {
                let (panel, count) = (group * PANELS_TOGETHER, out.len() / size);
                let whole = if columns(panel + count - 1) == width { count } else { count - 1 };
                for p in 0..weight.k {
                    let row = &weight.data[p * weight.input_stride + first + panel * width..];
                    let ahead = row.as_ptr().wrapping_add(ROWS_AHEAD * weight.input_stride);
                    for q in 0..whole {
                        for line in (0..width).step_by(LINE) {
                            s.prefetch(ahead.wrapping_add(q * width + line));
                        }
                        for v in 0..PANEL_VECTORS {
                            let lanes = s.load(&row[q * width + v * S::LANES..]);
                            s.store(lanes, &mut out[q * size + p * width + v * S::LANES..]);
                        }
                    }
                    if whole < count {
                        let (row, out) = (&row[whole * width..], &mut out[whole * size..]);
                        part(row, 1, columns(panel + whole), &mut out[p * width..][..width]);
                    }
                }
            }
            return;
        }
        for (panel, out) in out.chunks_mut(size).enumerate() {
            let columns = columns(panel);
            let source = &weight.data[(first + panel * width) * weight.column_stride..];
            let squares =
                if weight.input_stride == 1 && columns == width { weight.k / S::LANES } else { 0 };
            for p in (0..squares).map(|square| square * S::LANES) {
                if p % LINE == 0 {
                    for column in 0..width {
                        let ahead = column * weight.column_stride + p + LINES_AHEAD * LINE;
                        s.prefetch(source.as_ptr().wrapping_add(ahead));
                    }
                }
                for v in 0..PANEL_VECTORS {
                    let columns = v * S::LANES;
                    let source = &source[columns * weight.column_stride + p..];
                    let out = &mut out[p * width + columns..];
                    s.transpose(source, weight.column_stride, out, width);
                }
            }
            for p in squares * S::LANES..weight.k {
                let source = &source[p * weight.input_stride..];
                part(source, weight.column_stride, columns, &mut out[p * width..][..width]);
            }
        }
    }
}

/// Packs one input of `columns` output columns; the other columns are zero.
#[inline(always)]
fn part(source: &[f32], stride: usize, columns: usize, out: &mut [f32]) {
    let (part, rest) = out.split_at_mut(columns);
    part.iter_mut().enumerate().for_each(|(j, x)| *x = source[j * stride]);
    rest.fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    #[test]
    fn every_order_of_the_elements_packs_to_the_panels_that_are_defined() {
        for (n, k) in [(1, 1), (37, 11), (64, 40), (300, 33), (5, 0), (2048, 130)] {
            let weight = noise(5, n * k);
            let strided = |data, column_stride, input_stride| Strided {
                data,
                n,
                k,
                column_stride,
                input_stride,
            };
            let spread: Vec<f32> = weight.iter().flat_map(|&x| [x, 9.0]).collect();
            let transposed: Vec<f32> =
                (0..n * k).map(|i| weight[i % n * k + i / n]).chain([9.0; 7]).collect();
            everywhere(|isa, threads| {
                let width = PANEL_VECTORS * isa.lanes();
                let element = |e: usize| {
                    let (panel, p, j) = (e / (width * k), e / width % k, e % width);
                    let column = panel * width + j;
                    if column < n { weight[column * k + p] } else { 0.0 }
                };
                let want: Vec<f32> = (0..Panels::elements(isa, n, k)).map(element).collect();
                for weight in
                    [strided(&weight, k, 1), strided(&transposed, 1, n), strided(&spread, 2 * k, 2)]
                {
                    let mut memory = vec![f32::NAN; want.len() + 3];
                    let panels = Panels::pack(isa, threads, weight, &mut memory);
                    assert_eq!((panels.n(), panels.k(), panels.count()), (n, k, n.div_ceil(width)));
                    assert_same_bits(panels.from(0), &want);
                    let owned = PackedWeight::new(isa, threads, weight).unwrap();
                    assert_same_bits(owned.panels().from(0), &want);
                }
            });
        }
    }
}
