//! Large products of two matrices neither of which is known before, such as the gradients of
//! weights.
//!
//! The second matrix is packed in panels and the first, block by block, in tiles. So the inner loop
//! reads both from front to back. An element sums, in order, one chain of fused multiply-adds for
//! each block of inner elements. The length of the blocks depends only on the inner dimension.

use std::collections::TryReserveError;
use std::ops::Range;

use super::matmul::Matrix;
use super::pack::{PANEL_VECTORS, Panels, Strided};
use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads};

/// The most inner elements in one chain. A tile of this depth and what is read of the panel
/// meanwhile stay in the first-level cache.
const DEPTH: usize = 512;

/// The inner elements of one chain, for `k` in all: even shares of at most [`DEPTH`].
fn chain(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH)).next_multiple_of(16)
}

/// Tiles of the first matrix that are packed together.
const TILES: usize = 8;

/// Columns of the output that one task computes with rows that are packed only once.
const COLUMNS: usize = 1024;

/// The rows of the tallest tile.
const MOST_ROWS: usize = 8;

/// Elements from one tile to the next. They are more than whole pages, so that tiles do not compete
/// for the same lines of the cache.
const TILE_STRIDE: usize = DEPTH * MOST_ROWS + 16;

/// Tiles of the first matrix, each `[depth, rows]`.
type Tiles = [f32; TILES * TILE_STRIDE];

/// Elements of a cache line.
const LINE: usize = 16;

/// How many columns ahead packing prefetches.
const COLUMNS_AHEAD: usize = 32;

/// The most elements of the second matrix that are packed at a time (16 MiB).
const PACKED: usize = 4 << 20;

/// `out [m, n] = a [m, k]·b [k, n]`. The bits of an element do not depend on m, n or the number of
/// threads.
///
/// # Errors
/// There is no memory for the packed matrices.
pub fn packed_matmul(
    isa: Isa,
    threads: &Threads,
    scratch: &Scratch,
    [m, k, n]: [usize; 3],
    (a, b): (Matrix<'_>, Matrix<'_>),
    out: &mut [f32],
) -> Result<(), TryReserveError> {
    assert_eq!(out.len(), m * n);
    if out.is_empty() || k == 0 {
        out.fill(0.0);
        return Ok(());
    }
    let columns = Panels::elements(isa, n, 1);
    let chain = chain(k);
    let deep = (PACKED / columns / chain).max(1) * chain;
    let mut memory = scratch.take(columns * deep.min(k))?;
    let tile_rows = isa.tile_rows();
    let rows = (TILES * tile_rows).min(m.next_multiple_of(tile_rows));
    let blocks = [m.div_ceil(rows), n.div_ceil(COLUMNS)];
    let out = SharedMut::new(out);
    for start in (0..k).step_by(deep) {
        let depth = deep.min(k - start);
        let (column_stride, input_stride) = if b.by_rows { (1, b.stride) } else { (b.stride, 1) };
        let data = &b.data[start * input_stride..];
        let weight = Strided { data, n, k: depth, column_stride, input_stride };
        let panels = Panels::pack(isa, threads, weight, &mut memory);
        let count = blocks[0] * blocks[1];
        let divided = threads.tasks(m.saturating_mul(2 * n * depth), count) > 1;
        threads.run(if divided { count } else { 1 }, |task| {
            for block in if divided { task..task + 1 } else { 0..count } {
                let (i, j) = (block % blocks[0] * rows, block / blocks[0] * COLUMNS);
                let (rows, columns) = (i..(i + rows).min(m), j..(j + COLUMNS).min(n));
                isa.run(Block { a, panels, start, chain, rows, columns, out: &out });
            }
        });
    }
    Ok(())
}

/// Rows and columns of a product that are computed together.
struct Block<'a> {
    a: Matrix<'a>,
    panels: Panels<'a>,
    /// The inner element at which the panels begin.
    start: usize,
    /// Inner elements of one chain.
    chain: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    out: &'a SharedMut<'a, f32>,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match S::TILE_ROWS {
            4 => self.product::<S, 4>(s),
            6 => self.product::<S, 6>(s),
            8 => self.product::<S, 8>(s),
            rows => unreachable!("no tile of {rows} rows"),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn product<S: Simd, const ROWS: usize>(&self, s: S) {
        let mut packed: Tiles = [0.0; _];
        let width = PANEL_VECTORS * S::LANES;
        let tiles = self.rows.len().div_ceil(ROWS);
        let size = self.panels.k() * width;
        for from in (0..self.panels.k()).step_by(self.chain) {
            let depth = self.chain.min(self.panels.k() - from);
            if self.a.by_rows {
                self.pack_rows::<S, ROWS>(s, from, depth, &mut packed);
            } else {
                self.pack_columns::<S, ROWS>(s, from, depth, &mut packed);
            }
            let replace = self.start + from == 0;
            for column in self.columns.clone().step_by(width) {
                let panel = &self.panels.from(column / width)[from * width..size][..depth * width];
                for t in 0..tiles {
                    self.prefetch::<S, ROWS>(s, t * ROWS, column);
                    let tile = &packed[t * TILE_STRIDE..][..depth * ROWS];
                    let sums = multiply::<S, ROWS>(s, tile, panel);
                    self.store(s, sums, t * ROWS, column, replace);
                }
            }
        }
    }

    /// Packs rows `self.rows` of the first matrix, whose columns are contiguous: `tiles[t][p][r]`.
    #[inline(always)]
    fn pack_columns<S: Simd, const ROWS: usize>(
        &self,
        s: S,
        from: usize,
        depth: usize,
        tiles: &mut Tiles,
    ) {
        let rows = self.rows.len();
        for p in 0..depth {
            let start = (self.start + from + p) * self.a.stride + self.rows.start;
            let ahead = start + COLUMNS_AHEAD * self.a.stride;
            for line in (0..rows).step_by(LINE) {
                s.prefetch(self.a.data.as_ptr().wrapping_add(ahead + line));
            }
            let column = &self.a.data[start..start + rows];
            copy_column::<ROWS>(column, tiles, p);
        }
    }

    /// Packs rows `self.rows` of the first matrix, whose rows are contiguous: `tiles[t][p][r]`.
    #[inline(always)]
    fn pack_rows<S: Simd, const ROWS: usize>(
        &self,
        s: S,
        from: usize,
        depth: usize,
        tiles: &mut Tiles,
    ) {
        let (rows, stride) = (self.rows.len(), self.a.stride);
        let source = &self.a.data[self.rows.start * stride + self.start + from..];
        let mut turned = [0.0; 16 * TILES * MOST_ROWS.next_multiple_of(16)];
        let wide = rows.next_multiple_of(S::LANES);
        for p in (0..depth).step_by(S::LANES) {
            let count = S::LANES.min(depth - p);
            for r in (0..rows).step_by(S::LANES) {
                let height = S::LANES.min(rows - r);
                if count == S::LANES && height == S::LANES {
                    s.transpose(&source[r * stride + p..], stride, &mut turned[r..], wide);
                } else {
                    for (i, q) in (r..r + height).flat_map(|i| (0..count).map(move |q| (i, q))) {
                        turned[q * wide + i] = source[i * stride + p + q];
                    }
                }
            }
            for q in 0..count {
                let column = &turned[q * wide..][..rows];
                copy_column::<ROWS>(column, tiles, p + q);
            }
        }
    }

    /// Prefetches a tile of the output.
    #[inline(always)]
    fn prefetch<S: Simd, const ROWS: usize>(&self, s: S, first: usize, column: usize) {
        let n = self.panels.n();
        let start = (self.rows.start + first) * n + column;
        for r in 0..ROWS {
            for line in (0..PANEL_VECTORS * S::LANES).step_by(LINE) {
                s.prefetch(self.out.pointer().wrapping_add(start + r * n + line));
            }
        }
    }

    /// Adds the sums of a tile to the output or, if `replace`, stores them.
    #[inline(always)]
    fn store<S: Simd, const ROWS: usize>(
        &self,
        s: S,
        sums: [[S::F; PANEL_VECTORS]; ROWS],
        first: usize,
        column: usize,
        replace: bool,
    ) {
        let n = self.panels.n();
        let columns = (PANEL_VECTORS * S::LANES).min(n - column);
        for (r, sums) in sums.iter().enumerate() {
            if first + r < self.rows.len() {
                let start = (self.rows.start + first + r) * n + column;
                // SAFETY: tasks have different rows or different columns, and only one task has
                // these.
                let out = unsafe { self.out.slice(start..start + columns) };
                for (&sum, out) in sums.iter().zip(out.chunks_mut(S::LANES)) {
                    let y = if replace { sum } else { s.add(s.load_partial(out), sum) };
                    s.store_partial(y, out);
                }
            }
        }
    }
}

/// Writes a column of the rows into the tiles, as their inner element `p`. Rows that fill up the
/// last tile are zero.
#[inline(always)]
fn copy_column<const ROWS: usize>(column: &[f32], tiles: &mut Tiles, p: usize) {
    let mut whole = column.chunks_exact(ROWS);
    let mut at = p * ROWS;
    for rows in &mut whole {
        tiles[at..at + ROWS].copy_from_slice(rows);
        at += TILE_STRIDE;
    }
    let rest = whole.remainder();
    if !rest.is_empty() {
        let tile = &mut tiles[at..at + ROWS];
        tile[..rest.len()].copy_from_slice(rest);
        tile[rest.len()..].fill(0.0);
    }
}

/// `sums[r, :] = Σ_p tile[p, r]·panel[p, :]`.
#[inline(always)]
fn multiply<S: Simd, const ROWS: usize>(
    s: S,
    tile: &[f32],
    panel: &[f32],
) -> [[S::F; PANEL_VECTORS]; ROWS] {
    let width = PANEL_VECTORS * S::LANES;
    let mut acc = [[s.splat(0.0); PANEL_VECTORS]; ROWS];
    for (x, w) in tile.chunks_exact(ROWS).zip(panel.chunks_exact(width)) {
        let mut lanes = [s.splat(0.0); PANEL_VECTORS];
        for (v, lanes) in lanes.iter_mut().enumerate() {
            *lanes = s.load(&w[v * S::LANES..]);
        }
        for r in 0..ROWS {
            let x = s.splat(x[r]);
            for v in 0..PANEL_VECTORS {
                acc[r][v] = s.fma(x, lanes[v], acc[r][v]);
            }
        }
    }
    acc
}
