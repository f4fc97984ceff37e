//! The linear layer: `y = activation(x·Wᵀ + bias) + residual` with a packed weight.

use std::ops::Range;

use super::candidates::Product;
use super::epilogue::{Epilogue, Results};
use super::pack::{PANEL_VECTORS, Panels, Weight};
use super::rows::Rows;
use super::simd::{Kernel, Simd};
use super::threads::{SharedMut, Threads, product_work, share};
use super::tile::{Sums, panels_at_once, tile};

/// `out [m, n] = epilogue(x [m, k]·Wᵀ)`. x is stored in the form that products with the weight's
/// elements read (`x [m, words·FLOATS]`). The rows of `out` are `out_stride` elements apart.
///
/// A row's result depends on the row alone. Panics if the shapes do not agree.
pub fn linear<'w, W: Weight>(
    threads: &Threads,
    x: Rows<'_>,
    weight: impl Into<Panels<'w, W>>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let weight = weight.into();
    let (m, n, k) = (x.rows(), weight.n(), weight.k());
    let floats = weight.words() * W::FLOATS;
    assert_eq!(x.cols(), floats, "the rows of x must be as long as those of the weight");
    assert!(out_stride >= n && (m == 0 || out.len() >= (m - 1) * out_stride + n));
    epilogue.check(m, n);
    if m == 0 || n == 0 {
        return;
    }
    let out = SharedMut::new(out);
    let results = Results { epilogue, out: &out, stride: out_stride, n, origin: 0 };
    let job = |rows, panels| {
        let isa = weight.isa();
        isa.run(Block { x, weight, results, rows, panels });
    };
    // Many rows are divided by rows, so that each core reads rows of its own. Few rows are divided
    // by panels, so that each core reads weights of its own.
    let panels = weight.count();
    let work = product_work([m, n, k], n * weight.words() * size_of::<W>());
    let by_rows = m >= panels * 4;
    let tasks = threads.tasks(work, if by_rows { m / 48 } else { panels });
    threads.run(tasks, |i| {
        if by_rows {
            job(share(m, tasks, i), 0..panels)
        } else {
            job(0..m, share(panels, tasks, i))
        }
    });
}

/// `x·Wᵀ + bias`, which can be computed in parts.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a, W> {
    /// `[m, words·FLOATS]`
    pub x: Rows<'a>,
    /// `[n, k]`
    pub weight: Panels<'a, W>,
    /// `[n]`
    pub bias: Option<&'a [f32]>,
}

impl<W: Weight> Product for Projection<'_, W> {
    fn rows(&self) -> usize {
        self.x.rows()
    }

    fn columns(&self) -> usize {
        self.weight.n()
    }

    fn depth(&self) -> usize {
        self.weight.k()
    }

    fn part(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32], stride: usize) {
        let Projection { x, weight, bias } = *self;
        let panels = panels_of(columns.clone(), weight.width());
        let epilogue = Epilogue { bias, ..Epilogue::default() };
        epilogue.check(x.rows(), weight.n());
        let out = SharedMut::new(out);
        let origin = rows.start * stride + columns.start;
        let results = Results { epilogue, out: &out, stride, n: weight.n(), origin };
        weight.isa().run(Block { x, weight, results, rows, panels });
    }
}

/// The panels of these columns. The columns begin at a multiple of a panel's width and end at one,
/// unless they are the last.
pub(super) fn panels_of(columns: Range<usize>, width: usize) -> Range<usize> {
    assert!(columns.start.is_multiple_of(width));
    columns.start / width..columns.end.div_ceil(width)
}

/// The rows and panels of a product that one task computes.
struct Block<'a, W> {
    x: Rows<'a>,
    weight: Panels<'a, W>,
    results: Results<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// Elements of x that stay in the second-level cache while the block goes through the panels.
const BLOCK_ELEMENTS: usize = 96 * 1024;
/// The most tiles of a block.
const MOST_TILES: usize = 64;
/// Elements of a panel that stay in the first-level cache while the tiles of a block use them.
const PANEL_PART: usize = 4096;

impl<W: Weight> Kernel for Block<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = PANEL_VECTORS * S::LANES;
        let mut one = Sums::ZERO;
        let mut many = Vec::new();
        let k = self.weight.words();
        let tiles_at_once =
            (BLOCK_ELEMENTS / self.x.cols().max(1) / S::TILE_ROWS).clamp(1, MOST_TILES);
        let blocks = self.rows.len().div_ceil(tiles_at_once * S::TILE_ROWS);
        for b in 0..blocks {
            let block = share(self.rows.len(), blocks, b);
            let tiles = block.len().div_ceil(S::TILE_ROWS);
            let parts = if tiles > 1 { (k * width).div_ceil(PANEL_PART).max(1) } else { 1 };
            if parts > 1 {
                // Each tile keeps its sums, since it continues them with the next part of the
                // panel.
                many.resize(tiles, Sums::ZERO);
            }
            let mut panel = self.panels.start;
            while panel < self.panels.end {
                let most = panels_at_once(block.len());
                let count = if self.panels.end - panel >= most { most } else { 1 };
                let weights = self.weight.from(panel);
                let next = self.weight.from((panel + count).min(self.weight.count() - 1)).as_ptr();
                let lines = (k * width * size_of::<W>()).div_ceil(LINE * size_of::<f32>());
                for part in 0..parts {
                    let inputs = share(k, parts, part);
                    for t in 0..tiles {
                        let sums = many.get_mut(t).unwrap_or(&mut one);
                        let sums = &mut sums.0[..];
                        let rows = share(block.len(), tiles, t);
                        let first = self.rows.start + block.start + rows.start;
                        let rows = first..first + rows.len();
                        if part + 1 == parts {
                            let (column, columns) = (panel * width, count * width);
                            self.results.prefetch(s, rows.clone(), column, columns);
                        }
                        if panel == self.panels.start && part == 0 {
                            let next = rows.end;
                            self.prefetch_rows(s, next, S::TILE_ROWS.min(self.rows.end - next));
                        }
                        if tiles > 1 {
                            for line in share(lines, parts * tiles, part * tiles + t) {
                                s.prefetch(next.cast::<f32>().wrapping_add(line * LINE));
                            }
                        }
                        let inputs = inputs.clone();
                        tile(s, self.x, (first, rows.len()), (weights, count), inputs, sums);
                        if part + 1 < parts {
                            continue;
                        }
                        for q in 0..count {
                            let size = rows.len() * width;
                            let sums = &sums[q * size..][..size];
                            let place = ((panel + q) * width, width);
                            // SAFETY: tasks have different rows or different panels, and a task
                            // writes each element once.
                            unsafe { self.results.store(s, sums, None, rows.clone(), place) };
                        }
                    }
                }
                panel += count;
            }
        }
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

impl<W: Weight> Block<'_, W> {
    /// Prefetches rows of x.
    #[inline(always)]
    fn prefetch_rows<S: Simd>(&self, s: S, first: usize, rows: usize) {
        for x in (first..first + rows).map(|row| self.x.row(row)) {
            for at in (0..x.len()).step_by(LINE) {
                s.prefetch(x.as_ptr().wrapping_add(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pack::{PackedWeight, Strided};
    use crate::kernels::simd::Isa;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};
    use tfm_core::fused::Activation;

    /// A product whose x has gaps between its rows, with a weight, a bias and a residual.
    struct Case {
        x: Vec<f32>,
        weight: Vec<f32>,
        bias: Vec<f32>,
        residual: Vec<f32>,
        m: usize,
        n: usize,
        k: usize,
    }

    impl Case {
        fn new(m: usize, n: usize, k: usize) -> Case {
            let (x, weight) = (noise(1, m * (k + 3)), noise(2, n * k));
            Case { x, weight, bias: noise(3, n), residual: noise(4, m * n), m, n, k }
        }

        fn x(&self, rows: Range<usize>) -> Rows<'_> {
            let stride = self.k + 3;
            Rows::new(&self.x[rows.start * stride..rows.end * stride], rows.len(), self.k, stride)
        }

        fn packed(&self, isa: Isa, threads: &Threads) -> PackedWeight {
            let (data, n, k) = (&self.weight, self.n, self.k);
            let weight = Strided { data, n, k, column_stride: k, input_stride: 1 };
            PackedWeight::new(isa, threads, weight).unwrap()
        }

        fn run(&self, threads: &Threads, packed: &PackedWeight, rows: Range<usize>) -> Vec<f32> {
            let (n, gap) = (self.n, 2);
            let residual = &self.residual[rows.start * n..rows.end * n];
            let epilogue = Epilogue {
                bias: Some(&self.bias),
                activation: Some(Activation::Relu),
                residual: Some(Rows::new(residual, rows.len(), n, n)),
            };
            let mut out = vec![7.0; rows.len() * (n + gap)];
            linear(threads, self.x(rows), packed, epilogue, &mut out, n + gap);
            let gaps_kept = out.chunks(n + gap).all(|row| row[n..] == [7.0; 2]);
            assert!(gaps_kept, "wrote between the rows");
            out.chunks(n + gap).flat_map(|row| row[..n].to_vec()).collect()
        }

        fn expected(&self) -> Vec<f64> {
            let (n, k) = (self.n, self.k);
            let element = |i: usize, j: usize| {
                let x = &self.x[i * (k + 3)..][..k];
                let w = &self.weight[j * k..][..k];
                let dot: f64 = x.iter().zip(w).map(|(&x, &w)| x as f64 * w as f64).sum();
                (dot + self.bias[j] as f64).max(0.0) + self.residual[i * n + j] as f64
            };
            (0..self.m).flat_map(|i| (0..n).map(move |j| element(i, j))).collect()
        }
    }

    #[test]
    fn equals_the_f64_product_for_all_tails_and_a_row_keeps_its_bits_in_any_company() {
        let shapes = [(1, 1, 1), (1, 70, 33), (2, 31, 5), (3, 129, 64), (5, 16, 17), (13, 97, 40)];
        for (m, n, k) in shapes.into_iter().chain([(40, 200, 150), (300, 64, 130), (4, 33, 0)]) {
            let case = Case::new(m, n, k);
            let expected = case.expected();
            everywhere(|isa, threads| {
                let packed = case.packed(isa, threads);
                let all = case.run(threads, &packed, 0..m);
                // The error bound of a sum of k products of numbers below 1, and of what follows
                // it.
                let bound = (k + 4) as f64 * 2f64.powi(-24) * (k + 2) as f64;
                assert_near(&all, &expected, bound);
                for i in 0..m.min(20) {
                    let alone = case.run(threads, &packed, i..i + 1);
                    assert_same_bits(&alone, &all[i * n..(i + 1) * n]);
                }
                let half = case.run(threads, &packed, m / 2..m);
                assert_same_bits(&half, &all[m / 2 * n..]);
            });
        }
    }

    #[test]
    fn threads_do_not_change_a_bit_of_large_products() {
        // Both are large enough to be divided: the first by panels, the second by rows.
        for (m, n, k) in [(24, 500, 300), (900, 70, 256)] {
            let case = Case::new(m, n, k);
            let mut first: Option<(_, Vec<f32>)> = None;
            everywhere(|isa, threads| {
                let packed = case.packed(isa, threads);
                let y = case.run(threads, &packed, 0..m);
                match &first {
                    Some((set, bits)) if *set == isa => assert_same_bits(&y, bits),
                    _ => first = Some((isa, y)),
                }
            });
        }
    }
}
