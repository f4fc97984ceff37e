//! The inner loop of the packed product. It holds a tile of rows × one or more panels in registers.
//!
//! Each element is one chain of fused multiply-adds in the order of k, whatever the tile's size, so
//! a row's result is the same in every tile.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over ranges are unrolled, those over arrays may not be"
)]

use std::ops::Range;

use super::pack::{PANEL_VECTORS, Weight};
use super::rows::Rows;
use super::simd::Simd;

/// The elements of the largest tile's sums in any instruction set: `[panel, row, width]`, packed.
const MOST_SUMS: usize = 8 * PANEL_VECTORS * 16;

/// The greatest value of [`Weight::FLOATS`].
const MOST_FLOATS: usize = 2;

/// Memory for the sums of a tile. None of its vectors lies across two cache lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Sums(pub(super) [f32; MOST_SUMS]);

impl Sums {
    pub(super) const ZERO: Sums = Sums([0.0; MOST_SUMS]);
}

/// How many panels one tile of `rows` rows covers. With few rows, a single panel has too few
/// independent chains to hide the latency of the multiply-add.
pub(super) fn panels_at_once(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// `sums[q, r, :] = Σ_p x[first + r, p] · panels[q][p, :]`, where p is an element of the weight,
/// for `r < rows` and the first `count` panels. `count` is 1 or `panels_at_once(rows)`, and `rows`
/// is at most `S::TILE_ROWS`. With `inputs`, p takes only these values; unless they begin at 0, the
/// chain continues from what the sums were.
#[inline(always)]
pub(super) fn tile<S: Simd, W: Weight>(
    s: S,
    x: Rows<'_>,
    (first, rows): (usize, usize),
    (panels, count): (&[W], usize),
    inputs: Range<usize>,
    sums: &mut [f32],
) {
    let width = PANEL_VECTORS * S::LANES;
    assert!(
        rows > 0
            && first + rows <= x.rows()
            && panels.len() >= count * (x.cols() / W::FLOATS) * width
    );
    macro_rules! rows {
        ($($n:literal)*) => {
            match rows {
                1 if count == 4 => fixed::<S, W, 1, 4>(s, x, first, panels, inputs, sums),
                2 if count == 2 => fixed::<S, W, 2, 2>(s, x, first, panels, inputs, sums),
                3 if count == 2 => fixed::<S, W, 3, 2>(s, x, first, panels, inputs, sums),
                $($n if $n <= S::TILE_ROWS && count == 1 => fixed::<S, W, $n, 1>(s, x, first, panels, inputs, sums),)*
                _ => unreachable!("no tile of {rows} rows and {count} panels"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8)
}

#[inline(always)]
fn fixed<S: Simd, W: Weight, const ROWS: usize, const PANELS: usize>(
    s: S,
    x: Rows<'_>,
    first: usize,
    panels: &[W],
    inputs: Range<usize>,
    sums: &mut [f32],
) {
    let width = PANEL_VECTORS * S::LANES;
    let k = x.cols() / W::FLOATS;
    assert!(panels.len() >= PANELS * k * width && inputs.end <= k);
    let x: [*const f32; ROWS] = std::array::from_fn(|r| x.row(first + r).as_ptr());
    let panels: [*const W; PANELS] = std::array::from_fn(|q| panels[q * k * width..].as_ptr());
    let mut acc = [[[s.splat(0.0); PANEL_VECTORS]; ROWS]; PANELS];
    if inputs.start > 0 {
        for q in 0..PANELS {
            for r in 0..ROWS {
                for v in 0..PANEL_VECTORS {
                    let at = ((q * ROWS + r) * PANEL_VECTORS + v) * S::LANES;
                    acc[q][r][v] = s.load(&sums[at..]);
                }
            }
        }
    }
    for p in inputs {
        for q in 0..PANELS {
            let at = panels[q].wrapping_add(p * width);
            let mut w = [[s.splat(0.0); PANEL_VECTORS]; MOST_FLOATS];
            for v in 0..PANEL_VECTORS {
                // SAFETY: p < k, and each panel has k·width elements, as was asserted.
                let loaded = unsafe { W::load(s, at.add(v * S::LANES)) };
                for float in 0..W::FLOATS {
                    w[float][v] = W::part(s, loaded, float);
                }
            }
            for r in 0..ROWS {
                // The last comes first, in the order of the instruction for pairs.
                for float in (0..W::FLOATS).rev() {
                    // SAFETY: p < k, and every row has k·FLOATS floats.
                    let x = s.splat(unsafe { *x[r].add(p * W::FLOATS + float) });
                    for v in 0..PANEL_VECTORS {
                        acc[q][r][v] = W::add_product(s, acc[q][r][v], x, w[float][v]);
                    }
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
