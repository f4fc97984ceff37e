//! The quantised product on the [matrix unit](super::super::matrix_unit).
//!
//! The unit reads weights and inputs in the order in which AVX-512's instructions read them: a
//! panel of 32 columns is two tiles side by side, and the unit's sums are the same integers. So a
//! weight is packed once, and few rows are left to [`tile`], as are the last inputs of a row.

use std::ops::Range;

use super::super::matrix_unit::{MOST_ROWS, ROW_BYTES, Shapes, Unit};
use super::super::threads::share;
use super::gemm::Block;
use super::tile::tile;
use super::{Dot, DotKernel, GROUP, PANEL_VECTORS, UnitKernel};

/// The fewest rows for which the unit is faster than instructions on vectors.
pub(super) const FEWEST_ROWS: usize = 4;

/// Inputs that one instruction multiplies and adds up.
pub(super) const CHUNK: usize = ROW_BYTES;
/// Columns of a tile.
const COLUMNS: usize = 16;
/// Columns of a panel.
const WIDTH: usize = PANEL_VECTORS * COLUMNS;
/// Bytes of a chunk of a panel.
const CHUNK_BYTES: usize = CHUNK * WIDTH;
/// The most rows that one visit of a panel computes.
const VISIT_ROWS: usize = 2 * MOST_ROWS;
/// Bytes of inputs that stay in the second-level cache.
const BLOCK_BYTES: usize = 512 * 1024;
/// Bytes of weights that stay in the second-level cache while all rows of a block use them.
const GROUP_BYTES: usize = 256 * 1024;
/// Bytes of a cache line.
const LINE: usize = 64;

/// The sums of a visit: of up to two tiles of rows and a panel, `[rows, WIDTH]`.
#[repr(align(64))]
struct Sums([f32; VISIT_ROWS * WIDTH]);

/// Rows that the unit computes together: tiles of equal height, of which the last may begin among
/// the rows of the one before. So one configuration serves them all.
#[derive(Clone, Copy)]
struct Tiles {
    first: usize,
    rows: usize,
    count: usize,
    height: usize,
}

impl Tiles {
    fn new(rows: Range<usize>) -> Tiles {
        let count = rows.len().div_ceil(MOST_ROWS);
        let height = rows.len().div_ceil(count);
        Tiles { first: rows.start, rows: rows.len(), count, height }
    }

    /// The first row of tile `t`.
    fn start(self, t: usize) -> usize {
        self.first + (t * self.height).min(self.rows - self.height)
    }

    /// The number of visits that each panel gets, of two tiles each.
    fn visits(self) -> usize {
        self.count.div_ceil(2)
    }

    /// The rows that a visit computes and no visit before it has computed.
    fn new_in(self, visit: usize) -> Range<usize> {
        let rows = 2 * self.height;
        self.first + visit * rows..self.first + self.rows.min((visit + 1) * rows)
    }

    /// The rows of the unit's tiles: 0 to 3 hold sums, 4 and 5 inputs, 6 and 7 weights.
    fn shapes(self) -> Shapes {
        let (rows, all) = (self.height as u8, MOST_ROWS as u8);
        [rows, rows, rows, rows, rows, rows, all, all]
    }
}

impl UnitKernel for Block<'_> {
    #[inline(always)]
    fn run<D: Dot, U: Unit>(self, d: D, unit: U) {
        assert!(D::COLUMNS == COLUMNS && size_of::<D::Input>() == 1, "laid out as for the unit");
        let most = (BLOCK_BYTES / self.x.row_bytes::<D>()).max(VISIT_ROWS);
        let blocks = self.rows.len().div_ceil(most);
        for b in 0..blocks {
            let rows = share(self.rows.len(), blocks, b);
            let tiles = Tiles::new(self.rows.start + rows.start..self.rows.start + rows.end);
            unit.configure(&tiles.shapes());
            Product { block: &self, d, unit, tiles }.compute();
        }
        unit.release();
    }
}

/// The product of some rows and the block's panels.
struct Product<'a, D, U> {
    block: &'a Block<'a>,
    d: D,
    unit: U,
    tiles: Tiles,
}

impl<D: Dot, U: Unit> Product<'_, D, U> {
    #[inline(always)]
    fn compute(&self) {
        let Product { block, tiles, .. } = self;
        let mut sums = Sums([0.0; VISIT_ROWS * WIDTH]);
        // All rows use a group of panels, one visit after the other, while the next group is on its
        // way. With one visit, nothing is used again.
        let most = (GROUP_BYTES / block.weight.size()).max(1);
        let mut rest = block.panels.clone();
        while !rest.is_empty() {
            let group = rest.start..rest.end.min(rest.start + most);
            rest.start = group.end;
            let next = rest.start..rest.end.min(rest.start + most);
            let mut ahead = Ahead::new(block, next, tiles.visits());
            for visit in 0..tiles.visits() {
                for panel in group.clone() {
                    if 2 * visit + 1 < tiles.count {
                        self.multiply::<true>(visit, panel, &mut sums, &mut ahead);
                    } else {
                        self.multiply::<false>(visit, panel, &mut sums, &mut ahead);
                    }
                    self.finish(visit, panel, &mut sums);
                }
            }
        }
    }

    /// Computes the sums of a visit, of two tiles of rows or one.
    #[inline(always)]
    fn multiply<const TWO: bool>(
        &self,
        visit: usize,
        panel: usize,
        sums: &mut Sums,
        ahead: &mut Ahead,
    ) {
        let Product { block: Block { x, weight, .. }, d, unit, tiles } = *self;
        let (height, stride, inputs) = (tiles.height, x.row_bytes::<D>(), x.all::<D>());
        let first = tiles.start(2 * visit);
        let second = if TWO { tiles.start(2 * visit + 1) } else { first };
        let tile = |row: usize| {
            inputs[row * stride..(row + height - 1) * stride + weight.k()].as_ptr().cast::<u8>()
        };
        let (upper, lower) = (tile(first), tile(second));
        let weights = weight.from(panel)[..weight.size()].as_ptr();
        let starts = weight.starts(panel)[..WIDTH].as_ptr().cast::<u8>();
        assert!(second - first <= height && height <= MOST_ROWS);
        let line = WIDTH * size_of::<f32>();
        let upper_sums = sums.0.as_mut_ptr().cast::<u8>();
        let lower_sums = upper_sums.wrapping_add((second - first) * line);
        // SAFETY: a tile of inputs has `height` rows of k bytes. A panel has two tiles of weights
        // for each whole chunk of the inputs. The sums have room for both tiles of rows, and rows
        // that are in both have the same sums. A stride of 0 repeats the initial sums.
        unsafe {
            unit.load::<0>(starts, 0);
            unit.load::<1>(starts.add(ROW_BYTES), 0);
            if TWO {
                unit.load::<2>(starts, 0);
                unit.load::<3>(starts.add(ROW_BYTES), 0);
            }
            for chunk in 0..weight.k() / CHUNK {
                ahead.prefetch(d);
                let w = weights.add(chunk * CHUNK_BYTES).cast::<u8>();
                unit.load::<4>(upper.add(chunk * CHUNK), stride);
                unit.load::<6>(w, WIDTH * GROUP);
                unit.dot_bytes::<0, 4, 6>();
                unit.load::<7>(w.add(ROW_BYTES), WIDTH * GROUP);
                unit.dot_bytes::<1, 4, 7>();
                if TWO {
                    unit.load::<5>(lower.add(chunk * CHUNK), stride);
                    unit.dot_bytes::<2, 5, 6>();
                    unit.dot_bytes::<3, 5, 7>();
                }
            }
            unit.store::<0>(upper_sums, line);
            unit.store::<1>(upper_sums.add(ROW_BYTES), line);
            if TWO {
                unit.store::<2>(lower_sums, line);
                unit.store::<3>(lower_sums.add(ROW_BYTES), line);
            }
        }
    }

    /// Finishes and stores a visit's sums.
    #[inline(always)]
    fn finish(&self, visit: usize, panel: usize, sums: &mut Sums) {
        let Product { block, tiles, .. } = *self;
        let rows = tiles.new_in(visit);
        let place = rows.start - tiles.start(2 * visit);
        let sums = &mut sums.0[place * WIDTH..(place + rows.len()) * WIDTH];
        // In a function of its own, which has all registers.
        block.weight.isa().run(Finish { block, sums, rows, panel });
    }
}

/// Adds the products of the last inputs, which fill no chunk, and then does what follows the
/// product.
struct Finish<'a> {
    block: &'a Block<'a>,
    /// `[rows, WIDTH]`
    sums: &'a mut [f32],
    rows: Range<usize>,
    panel: usize,
}

impl DotKernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot>(self, d: D) {
        let Finish { block, sums, rows, panel } = self;
        let groups = block.weight.k().div_ceil(GROUP);
        let whole = block.weight.k() / CHUNK * (CHUNK / GROUP);
        if whole < groups {
            for (i, sums) in sums.chunks_mut(D::TILE_ROWS * WIDTH).enumerate() {
                let place = (rows.start + i * D::TILE_ROWS, sums.len() / WIDTH);
                tile(d, block.x, place, block.weight, (panel, 1), whole..groups, sums);
            }
        }
        block.store(d, sums, (rows.start, rows.len()), (panel, 1));
    }
}

/// The weights of the next group of panels, which are prefetched little by little.
struct Ahead {
    at: *const i8,
    lines: usize,
    /// Lines for each chunk that is multiplied, so that all have been asked for at the group's end.
    at_once: usize,
}

impl Ahead {
    fn new(block: &Block<'_>, panels: Range<usize>, visits: usize) -> Ahead {
        if visits == 1 || panels.is_empty() {
            return Ahead { at: std::ptr::null(), lines: 0, at_once: 0 };
        }
        let lines = panels.len() * block.weight.size() / LINE;
        let at_once = (CHUNK_BYTES / LINE).div_ceil(visits);
        Ahead { at: block.weight.from(panels.start).as_ptr(), lines, at_once }
    }

    #[inline(always)]
    fn prefetch<D: Dot>(&mut self, d: D) {
        for _ in 0..self.at_once.min(self.lines) {
            d.prefetch_far(self.at);
            self.at = self.at.wrapping_add(LINE);
            self.lines -= 1;
        }
    }
}
