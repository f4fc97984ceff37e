//! The linear layer on 8-bit integers: `y = activation(x·Wᵀ + bias) + residual` with a quantised
//! weight. It quantises the rows of x on the way.

use std::collections::TryReserveError;
use std::ops::Range;

use super::super::candidates::Product;
use super::super::epilogue::{Epilogue, Results, Scales};
use super::super::gemm::panels_of;
use super::super::rows::Rows;
use super::super::scratch::Scratch;
use super::super::threads::{SharedMut, Threads, product_work, share};
use super::super::tile::Sums;
use super::matrix;
use super::pack::QuantizedWeight;
use super::quantize::QuantizedRows;
use super::tile::{panels_at_once, tile};
use super::{Dot, DotKernel, GROUP, PANEL_VECTORS};

/// `out [m, n] = epilogue(x [m, k]·Wᵀ)`. The rows of `out` are `out_stride` elements apart.
///
/// A row's result depends on the row alone. Panics if the shapes do not agree.
///
/// # Errors
/// There is no memory for the quantised rows.
pub fn linear(
    threads: &Threads,
    scratch: &Scratch,
    x: Rows<'_>,
    weight: &QuantizedWeight,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) -> Result<(), TryReserveError> {
    let (m, n, k) = (x.rows(), weight.n(), weight.k());
    assert_eq!(x.cols(), k, "the rows of x must be as long as those of the weight");
    assert!(out_stride >= n && (m == 0 || out.len() >= (m - 1) * out_stride + n));
    epilogue.check(m, n);
    if m == 0 || n == 0 {
        return Ok(());
    }
    let x = QuantizedRows::new(weight.isa(), threads, scratch, x)?;
    let out = SharedMut::new(out);
    let results = Results { epilogue, out: &out, stride: out_stride, n, origin: 0 };
    let job = |rows, panels| {
        Block { x: &x, weight, results, rows, panels }.compute();
    };
    // Divided as the product of floats is. A product of integers takes about half as long.
    let panels = weight.count();
    let work = product_work([m, n, k / 2], n * k);
    let by_rows = m >= panels * 4;
    let tasks = threads.tasks(work, if by_rows { m / 48 } else { panels });
    threads.run(tasks, |i| {
        if by_rows {
            job(share(m, tasks, i), 0..panels)
        } else {
            job(0..m, share(panels, tasks, i))
        }
    });
    Ok(())
}

/// `x·Wᵀ + bias`, which can be computed in parts.
#[derive(Clone, Copy)]
pub struct Projection<'a> {
    /// `[m, k]`, quantised for the weight's instruction set.
    pub x: &'a QuantizedRows<'a>,
    /// `[n, k]`
    pub weight: &'a QuantizedWeight,
    /// `[n]`
    pub bias: Option<&'a [f32]>,
}

impl Product for Projection<'_> {
    fn rows(&self) -> usize {
        self.x.rows()
    }

    fn columns(&self) -> usize {
        self.weight.n()
    }

    /// Half of the inner extent: a product of integers takes about half as long as one of floats.
    fn depth(&self) -> usize {
        self.weight.k() / 2
    }

    fn part(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32], stride: usize) {
        let Projection { x, weight, bias } = *self;
        let panels = panels_of(columns.clone(), weight.width());
        let epilogue = Epilogue { bias, ..Epilogue::default() };
        epilogue.check(x.rows(), weight.n());
        let out = SharedMut::new(out);
        let origin = rows.start * stride + columns.start;
        let results = Results { epilogue, out: &out, stride, n: weight.n(), origin };
        Block { x, weight, results, rows, panels }.compute();
    }
}

/// The rows and panels of a product that one task computes.
pub(super) struct Block<'a> {
    pub(super) x: &'a QuantizedRows<'a>,
    pub(super) weight: &'a QuantizedWeight,
    results: Results<'a>,
    pub(super) rows: Range<usize>,
    pub(super) panels: Range<usize>,
}

impl Block<'_> {
    /// Computes the block on the instruction set that the weight is packed for.
    fn compute(self) {
        let isa = self.weight.isa();
        let is_large = self.rows.len() >= matrix::FEWEST_ROWS && self.weight.k() >= matrix::CHUNK;
        if isa.has_unit() && is_large { isa.run_on_unit(self) } else { isa.run(self) }
    }
}

/// Bytes of inputs that stay in the second-level cache while the block goes through the panels.
const BLOCK_BYTES: usize = 256 * 1024;
/// The most tiles of a block.
const MOST_TILES: usize = 64;
/// Bytes of a panel that stay in the first-level cache while the tiles of a block use them.
const PANEL_PART: usize = 16 * 1024;
/// Bytes of a cache line.
const LINE: usize = 64;

impl DotKernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot>(self, d: D) {
        let size = self.weight.size();
        let groups = self.weight.k().div_ceil(GROUP);
        let mut one = Sums::ZERO;
        let mut many = Vec::new();
        let row_bytes = self.weight.k().max(1) * size_of::<D::Input>();
        let tiles_at_once = (BLOCK_BYTES / row_bytes / D::TILE_ROWS).clamp(1, MOST_TILES);
        let blocks = self.rows.len().div_ceil(tiles_at_once * D::TILE_ROWS);
        for b in 0..blocks {
            let block = share(self.rows.len(), blocks, b);
            let tiles = block.len().div_ceil(D::TILE_ROWS);
            let parts = if tiles > 1 { size.div_ceil(PANEL_PART).max(1) } else { 1 };
            if parts > 1 {
                // Each tile keeps its sums, since it continues them with the next part of the
                // panel.
                many.resize(tiles, Sums::ZERO);
            }
            let most = if tiles > 1 { 1 } else { panels_at_once(block.len()) };
            let mut panel = self.panels.start;
            while panel < self.panels.end {
                let count = if self.panels.end - panel >= most { most } else { 1 };
                let next = self.weight.from((panel + count).min(self.weight.count() - 1));
                for part in 0..parts {
                    let groups = share(groups, parts, part);
                    for t in 0..tiles {
                        let sums = many.get_mut(t).unwrap_or(&mut one);
                        let sums = &mut sums.0[..];
                        let rows = share(block.len(), tiles, t);
                        let first = self.rows.start + block.start + rows.start;
                        let place = ((first, rows.len()), (panel, count));
                        if tiles > 1 {
                            let visits = parts * tiles;
                            for line in share(size.div_ceil(LINE), visits, part * tiles + t) {
                                d.prefetch(next.as_ptr().wrapping_add(line * LINE));
                            }
                        }
                        tile(d, self.x, place.0, self.weight, place.1, groups.clone(), sums);
                        if part + 1 == parts {
                            self.store(d, sums, place.0, place.1);
                        }
                    }
                }
                panel += count;
            }
        }
    }
}

impl Block<'_> {
    /// Scales and finishes the sums of a tile, and stores them.
    #[inline(always)]
    pub(super) fn store<D: Dot>(
        &self,
        d: D,
        sums: &[f32],
        (first, rows): (usize, usize),
        (panel, count): (usize, usize),
    ) {
        let s = d.floats();
        let (from, width) = (panel, PANEL_VECTORS * D::COLUMNS);
        for panel in panel..panel + count {
            let sums = &sums[(panel - from) * rows * width..][..rows * width];
            let columns = &self.weight.scales(panel)[..width];
            let scales = Some(Scales { rows: self.x.scales(), columns });
            let place = (panel * width, width);
            // SAFETY: tasks have different rows or different panels.
            unsafe { self.results.store(s, sums, scales, first..first + rows, place) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::int8::DotIsa;
    use crate::kernels::matrix_unit::{Mistake, Model};
    use crate::kernels::pack::Strided;
    use crate::kernels::testing::{assert_same_bits, noise};
    use tfm_core::fused::Activation;

    /// Every instruction set with 1, 2 and 3 threads.
    fn everywhere(mut test: impl FnMut(DotIsa, &Threads)) {
        for isa in DotIsa::tested() {
            for count in [1, 2, 3] {
                test(isa, &Threads::new(count).expect("threads start"));
            }
        }
    }

    /// Quantises a row by the definition: its integers and its scale.
    fn quantized(x: &[f32]) -> (Vec<i32>, f32) {
        let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        (integers(x, factor), largest / 127.0)
    }

    /// Quantises a row of a weight, whose neighbours of one sign have a bounded sum.
    fn quantized_weight(w: &[f32]) -> (Vec<i32>, f32) {
        let largest = w.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let sum = |sign: f32, pair: &[f32]| pair.iter().map(|x| (sign * x).max(0.0)).sum::<f32>();
        let sums = w.chunks(2).flat_map(|pair| [sum(1.0, pair), sum(-1.0, pair)]);
        let scale = (largest / 127.0).max(sums.fold(0.0, f32::max) / 128.0);
        let integers = integers(w, if scale > 0.0 { 1.0 / scale } else { 0.0 });
        for pair in integers.chunks(2) {
            let sum = |sign: i32| pair.iter().map(|q| (sign * q).max(0)).sum::<i32>();
            assert!(sum(1) * 254 <= 32767 && sum(-1) * 254 <= 32767, "no sum of two saturates");
        }
        (integers, scale)
    }

    fn integers(x: &[f32], factor: f32) -> Vec<i32> {
        x.iter().map(|x| (x * factor).round_ties_even() as i32).collect()
    }

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
            let (mut x, mut weight) = (noise(1, m * (k + 3)), noise(2, n * k));
            // Rows of extremes of one sign, which have the largest products; and rows of zeros.
            if m > 2 {
                x[k + 3..][..k].fill(0.9);
                x[2 * (k + 3)..][..k].fill(0.0);
            }
            if n > 3 {
                weight[..k].fill(-0.7);
                weight[k..2 * k].fill(0.7);
                weight[3 * k..4 * k].fill(0.0);
            }
            Case { x, weight, bias: noise(3, n), residual: noise(4, m * n), m, n, k }
        }

        fn run(&self, isa: DotIsa, threads: &Threads, rows: Range<usize>) -> Vec<f32> {
            let Case { n, k, .. } = *self;
            let weight = Strided { data: &self.weight, n, k, column_stride: k, input_stride: 1 };
            let weight = QuantizedWeight::new(isa, threads, weight).unwrap();
            let stride = k + 3;
            let x = &self.x[rows.start * stride..rows.end * stride];
            let x = Rows::new(x, rows.len(), k, stride);
            let residual = &self.residual[rows.start * n..rows.end * n];
            let epilogue = Epilogue {
                bias: Some(&self.bias),
                activation: Some(Activation::Relu),
                residual: Some(Rows::new(residual, rows.len(), n, n)),
            };
            let mut out = vec![7.0; rows.len() * (n + 2)];
            linear(threads, &Scratch::new(), x, &weight, epilogue, &mut out, n + 2).unwrap();
            assert!(out.chunks(n + 2).all(|row| row[n..] == [7.0; 2]), "wrote between the rows");
            out.chunks(n + 2).flat_map(|row| row[..n].to_vec()).collect()
        }

        fn expected(&self) -> Vec<f32> {
            let Case { m, n, k, .. } = *self;
            let weights: Vec<_> = self.weight.chunks(k.max(1)).map(quantized_weight).collect();
            let mut expected = Vec::new();
            for i in 0..m {
                let (x, scale) = quantized(&self.x[i * (k + 3)..][..k]);
                for j in 0..n {
                    let (w, own) = weights.get(j).cloned().unwrap_or_default();
                    let sum: i32 = x.iter().zip(&w).map(|(x, w)| x * w).sum();
                    let y = (sum as f32 * (scale * own) + self.bias[j]).max(0.0);
                    expected.push(y + self.residual[i * n + j]);
                }
            }
            expected
        }
    }

    #[test]
    fn sums_are_exact_on_every_set_for_all_tails_and_in_any_company() {
        let shapes = [(1, 1, 1), (1, 70, 33), (2, 31, 5), (3, 129, 64), (5, 16, 17), (13, 97, 40)];
        for (m, n, k) in shapes.into_iter().chain([(40, 200, 150), (30, 33, 2300), (4, 33, 0)]) {
            let case = Case::new(m, n, k);
            let expected = case.expected();
            everywhere(|isa, threads| {
                assert_same_bits(&case.run(isa, threads, 0..m), &expected);
                for i in 0..m.min(5) {
                    let alone = case.run(isa, threads, i..i + 1);
                    assert_same_bits(&alone, &expected[i * n..(i + 1) * n]);
                }
                assert_same_bits(&case.run(isa, threads, m / 2..m), &expected[m / 2 * n..]);
            });
        }
    }

    #[test]
    fn large_products_are_divided_and_keep_their_bits() {
        // The first is divided by panels, the second by rows.
        for (m, n, k) in [(24, 700, 300), (900, 70, 256)] {
            let case = Case::new(m, n, k);
            let expected = case.expected();
            everywhere(|isa, threads| assert_same_bits(&case.run(isa, threads, 0..m), &expected));
        }
    }

    #[test]
    fn every_mistake_with_tiles_shows() {
        use Mistake::*;
        // Two visits, of two tiles and of one, whose rows overlap.
        let (case, threads) = (Case::new(41, 70, 200), Threads::new(1).unwrap());
        let run = || case.run(DotIsa::likeness(), &threads, 0..41);
        let expected = case.expected();
        assert_same_bits(&run(), &expected);
        let of_tile = (0..8).flat_map(|t| [Unread(t), Stride(t), Unwritten(t)]);
        // The initial sums have no distance between their rows, and only sums are written.
        let of_tile = of_tile.filter(|mistake| !matches!(mistake, Unwritten(4..)));
        let sums = [(0, 1), (1, 0), (2, 0), (0, 2), (3, 2), (2, 3), (1, 3), (3, 1)];
        let operands = [(4, 5), (5, 4), (6, 7), (7, 6)];
        let wrong = sums.map(|(is, should)| Sum(is, should)).into_iter();
        let wrong = wrong.chain(operands.map(|(is, should)| Operand(is, should)));
        for mistake in of_tile.chain(wrong) {
            let result = Model::with_mistake(mistake, run);
            assert!(result != expected, "{mistake:?} is not noticed");
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        everywhere(|isa, threads| {
            let weight =
                Strided { data: &[0.5; 40], n: 2, k: 20, column_stride: 20, input_stride: 1 };
            let weight = QuantizedWeight::new(isa, threads, weight).unwrap();
            for (place, bad) in [(0, f32::NAN), (19, f32::NAN), (5, f32::INFINITY)] {
                let mut x = [1.0; 40];
                x[place] = bad;
                let (x, mut out) = (Rows::contiguous(&x, 20), [0.0; 4]);
                let (epilogue, scratch) = (Epilogue::default(), Scratch::new());
                linear(threads, &scratch, x, &weight, epilogue, &mut out, 2).unwrap();
                assert!(out[0].is_nan() && out[1].is_nan() && out[2] == 10.0, "{out:?}");
            }
        });
    }

    #[test]
    fn a_weight_in_any_order_packs_to_the_same_and_gives_its_rows_back() {
        let (n, k) = (37, 22);
        let weight = noise(5, n * k);
        let transposed: Vec<f32> = (0..n * k).map(|i| weight[i % n * k + i / n]).collect();
        everywhere(|isa, threads| {
            let pack = |data, column_stride, input_stride| {
                let weight = Strided { data, n, k, column_stride, input_stride };
                QuantizedWeight::new(isa, threads, weight).unwrap()
            };
            for packed in [pack(&weight, k, 1), pack(&transposed, 1, n)] {
                for j in 0..n {
                    let (integers, scale) = quantized_weight(&weight[j * k..][..k]);
                    let want: Vec<f32> = integers.iter().map(|&q| q as f32 * scale).collect();
                    let mut row = vec![0.0; k];
                    packed.row(j, &mut row);
                    assert_same_bits(&row, &want);
                }
            }
        });
    }
}
