//! The linear layer: `y = activation(x·Wᵀ + bias) + residual` with a packed weight.

use std::ops::Range;

use tfm_core::fused::Activation;

use super::activation::activate;
use super::pack::Panels;
use super::rows::Rows;
use super::simd::{Kernel, Simd};
use super::threads::{SharedMut, Threads, share};
use super::tile::{Sums, panels_at_once, tile};

/// What is done to a product's element before it is stored: `activation(sum + bias) + residual`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[n]`
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// `[m, n]`, added last.
    pub residual: Option<Rows<'a>>,
}

/// `out [m, n] = epilogue(x [m, k]·Wᵀ)`, with `out_stride` elements from row to row of `out`.
///
/// A row's result depends on the row alone. Panics when the shapes do not agree.
pub fn linear<'w>(
    threads: &Threads,
    x: Rows<'_>,
    weight: impl Into<Panels<'w>>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let weight = weight.into();
    let (m, n, k) = (x.rows(), weight.n(), weight.k());
    assert_eq!(x.cols(), k, "the rows of x must be as long as those of the weight");
    assert!(out_stride >= n && (m == 0 || out.len() >= (m - 1) * out_stride + n));
    assert!(epilogue.bias.is_none_or(|b| b.len() == n));
    assert!(epilogue.residual.is_none_or(|r| r.rows() == m && r.cols() == n));
    if m == 0 || n == 0 {
        return;
    }
    let out = SharedMut::new(out);
    let job = |rows, panels| {
        let weight_isa = weight.isa();
        weight_isa.run(Block { x, weight, epilogue, out: &out, out_stride, rows, panels });
    };
    // Many rows are divided by rows, so that each core reads its own; few rows by panels, so that each
    // core reads its own weights.
    let panels = weight.count();
    let work = m.saturating_mul(2 * n * k);
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

/// The rows and panels of a product that one task computes.
struct Block<'a> {
    x: Rows<'a>,
    weight: Panels<'a>,
    epilogue: Epilogue<'a>,
    out: &'a SharedMut<'a, f32>,
    out_stride: usize,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// Elements of x that stay in the second-level cache while the panels go by, ...
const BLOCK_ELEMENTS: usize = 96 * 1024;
/// ... and elements of panels up to which it is these that stay there, and a tile's rows in the first-level cache.
const PANEL_ELEMENTS: usize = 160 * 1024;

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.width();
        let mut sums: Sums = [0.0; _];
        let k = self.x.cols().max(1);
        let small = self.panels.len() * width * k <= PANEL_ELEMENTS;
        let tiles_at_once = if small { 1 } else { (BLOCK_ELEMENTS / k / S::TILE_ROWS).max(1) };
        let blocks = self.rows.len().div_ceil(tiles_at_once * S::TILE_ROWS);
        for b in 0..blocks {
            let block = share(self.rows.len(), blocks, b);
            let tiles = block.len().div_ceil(S::TILE_ROWS);
            let mut panel = self.panels.start;
            while panel < self.panels.end {
                let most = panels_at_once(block.len());
                let count = if self.panels.end - panel >= most { most } else { 1 };
                for t in 0..tiles {
                    let part = share(block.len(), tiles, t);
                    let first = self.rows.start + block.start + part.start;
                    let weights = self.weight.from(panel);
                    self.prefetch(s, first, part.len(), panel, count);
                    if panel == self.panels.start {
                        let next = first + part.len();
                        self.prefetch_rows(s, next, S::TILE_ROWS.min(self.rows.end - next));
                    }
                    tile(s, self.x, first, part.len(), weights, count, &mut sums);
                    for (i, sums) in sums.chunks(width).take(count * part.len()).enumerate() {
                        let column = (panel + i / part.len()) * width;
                        self.store(s, sums, first + i % part.len(), column);
                    }
                }
                panel += count;
            }
        }
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

impl Block<'_> {
    /// Asks for the part of the output that a tile will be stored in, and what is added to it.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, first: usize, rows: usize, panel: usize, count: usize) {
        let width = self.weight.width();
        for row in first..first + rows {
            let start = self.out.pointer().wrapping_add(row * self.out_stride + panel * width);
            let residual = self.epilogue.residual.map(|r| r.row(row).as_ptr());
            for at in (0..count * width).step_by(LINE) {
                s.prefetch(start.wrapping_add(at));
                if let Some(residual) = residual {
                    s.prefetch(residual.wrapping_add(panel * width + at));
                }
            }
        }
    }

    /// Asks for rows of x.
    #[inline(always)]
    fn prefetch_rows<S: Simd>(&self, s: S, first: usize, rows: usize) {
        for x in (first..first + rows).map(|row| self.x.row(row)) {
            for at in (0..x.len()).step_by(LINE) {
                s.prefetch(x.as_ptr().wrapping_add(at));
            }
        }
    }

    /// Finishes the sums of one panel's columns of a row, and stores them.
    #[inline(always)]
    fn store<S: Simd>(&self, s: S, sums: &[f32], row: usize, column: usize) {
        let columns = column..(column + sums.len()).min(self.weight.n());
        let Epilogue { bias, activation, residual } = self.epilogue;
        let start = row * self.out_stride;
        // SAFETY: tasks have different rows or different panels, and a task writes one element once.
        let out = unsafe { self.out.slice(start + columns.start..start + columns.end) };
        let bias = bias.map(|b| &b[columns.clone()]);
        let residual = residual.map(|r| &r.row(row)[columns.clone()]);
        for (i, out) in out.chunks_mut(S::LANES).enumerate() {
            let lanes = i * S::LANES..i * S::LANES + out.len();
            let mut y = s.load_partial(&sums[lanes.clone()]);
            if let Some(bias) = bias {
                y = s.add(y, s.load_partial(&bias[lanes.clone()]));
            }
            if let Some(activation) = activation {
                y = activate(s, activation, y);
            }
            if let Some(residual) = residual {
                y = s.add(y, s.load_partial(&residual[lanes]));
            }
            s.store_partial(y, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pack::{PackedWeight, Strided};
    use crate::kernels::simd::Isa;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    /// x with gaps between its rows, a weight, a bias and a residual.
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
                // The bound of a sum of k products of numbers below 1, and of what follows it.
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
        // Large enough to be divided: the first by panels, the second by rows.
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
