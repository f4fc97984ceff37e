//! The inner loop of the packed product: a tile of rows × one or more panels, held in registers.
//!
//! Each element is one chain of fused multiply-adds in the order of k, whatever the tile's size, so a
//! row's result is the same in every tile.

use super::pack::PANEL_VECTORS;
use super::rows::Rows;
use super::simd::Simd;

/// The most vectors in a tile, of any instruction set.
const MAX_VECTORS: usize = 8 * PANEL_VECTORS;
/// The widest vector, of any instruction set.
const MAX_LANES: usize = 16;

/// A tile's sums: `[panel, row, width]`, packed.
pub(super) type Sums = [f32; MAX_VECTORS * MAX_LANES];

/// How many panels one tile of `rows` rows covers: with few rows there are else too few independent
/// chains to fill the latency of the multiply-add.
pub(super) fn panels_at_once(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// `sums[q, r, :] = Σ_p x[first + r, p] · panels[q][p, :]` for `r < rows` and the first `count` panels, where
/// `count` is 1 or `panels_at_once(rows)` and `rows` at most `S::TILE_ROWS`.
#[inline(always)]
pub(super) fn tile<S: Simd>(
    s: S,
    x: Rows<'_>,
    first: usize,
    rows: usize,
    panels: &[f32],
    count: usize,
    sums: &mut Sums,
) {
    let width = PANEL_VECTORS * S::LANES;
    assert!(rows > 0 && first + rows <= x.rows() && panels.len() >= count * x.cols() * width);
    macro_rules! rows {
        ($($n:literal)*) => {
            match rows {
                1 if count == 4 => fixed::<S, 1, 4>(s, x, first, panels, sums),
                2 if count == 2 => fixed::<S, 2, 2>(s, x, first, panels, sums),
                3 if count == 2 => fixed::<S, 3, 2>(s, x, first, panels, sums),
                $($n if $n <= S::TILE_ROWS && count == 1 => fixed::<S, $n, 1>(s, x, first, panels, sums),)*
                _ => unreachable!("no tile of {rows} rows and {count} panels"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8)
}

#[inline(always)]
fn fixed<S: Simd, const ROWS: usize, const PANELS: usize>(
    s: S,
    x: Rows<'_>,
    first: usize,
    panels: &[f32],
    sums: &mut Sums,
) {
    let width = PANEL_VECTORS * S::LANES;
    let k = x.cols();
    assert!(panels.len() >= PANELS * k * width);
    let x: [*const f32; ROWS] = std::array::from_fn(|r| x.row(first + r).as_ptr());
    let panels: [*const f32; PANELS] = std::array::from_fn(|q| panels[q * k * width..].as_ptr());
    let mut acc = [[[s.splat(0.0); PANEL_VECTORS]; ROWS]; PANELS];
    for p in 0..k {
        for q in 0..PANELS {
            let at = panels[q].wrapping_add(p * width);
            let mut w = [s.splat(0.0); PANEL_VECTORS];
            for (v, w) in w.iter_mut().enumerate() {
                // SAFETY: p < k, and each panel has k·width elements, as asserted.
                *w = unsafe { s.load_ptr(at.add(v * S::LANES)) };
            }
            for r in 0..ROWS {
                // SAFETY: p < k, the length of every row.
                let x = s.splat(unsafe { *x[r].add(p) });
                for v in 0..PANEL_VECTORS {
                    acc[q][r][v] = s.fma(x, w[v], acc[q][r][v]);
                }
            }
        }
    }
    for q in 0..PANELS {
        for r in 0..ROWS {
            for v in 0..PANEL_VECTORS {
                s.store(acc[q][r][v], &mut sums[((q * ROWS + r) * PANEL_VECTORS + v) * S::LANES..]);
            }
        }
    }
}
