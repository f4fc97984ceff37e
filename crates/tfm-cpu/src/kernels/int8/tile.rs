//! The inner loop of the quantised product. It holds a tile of rows × one or more panels in
//! registers.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over ranges are unrolled, those over arrays may not be"
)]

use std::ops::Range;

use super::pack::QuantizedWeight;
use super::quantize::QuantizedRows;
use super::{Dot, GROUP, PANEL_VECTORS};

/// How many panels one tile of `rows` rows covers. With few rows, a single panel has too few
/// independent sums to hide the latency of the multiplication.
pub(super) fn panels_at_once(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// `sums[q, r, :] = Σ_p x[first + r, p]·panels[q][p, :]` for `r < rows`. The panels are `count`
/// panels of the weight from `panel` on; `count` is 1 or `panels_at_once(rows)`, and `rows` is at
/// most `D::TILE_ROWS`. A call adds only these groups of inputs. `sums` has the bits of the sums,
/// from which the next part continues.
#[inline(always)]
pub(super) fn tile<D: Dot>(
    d: D,
    x: &QuantizedRows<'_>,
    (first, rows): (usize, usize),
    weight: &QuantizedWeight,
    (panel, count): (usize, usize),
    groups: Range<usize>,
    sums: &mut [f32],
) {
    let tile = Tile { d, x, first, weight, panel };
    macro_rules! rows {
        ($($n:literal)*) => {
            match rows {
                1 if count == 4 => tile.sums::<1, 4>(groups, sums),
                2 if count == 2 => tile.sums::<2, 2>(groups, sums),
                3 if count == 2 => tile.sums::<3, 2>(groups, sums),
                $($n if $n <= D::TILE_ROWS && count == 1 => tile.sums::<$n, 1>(groups, sums),)*
                _ => unreachable!("no tile of {rows} rows and {count} panels"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8)
}

#[derive(Clone, Copy)]
struct Tile<'a, D> {
    d: D,
    x: &'a QuantizedRows<'a>,
    first: usize,
    weight: &'a QuantizedWeight,
    panel: usize,
}

impl<D: Dot> Tile<'_, D> {
    #[inline(always)]
    fn sums<const ROWS: usize, const PANELS: usize>(self, groups: Range<usize>, sums: &mut [f32]) {
        let (d, all) = (self.d, self.weight.k().div_ceil(GROUP));
        assert!(groups.end <= all);
        let (size, vector) = (self.weight.size(), D::COLUMNS * GROUP);
        let panels = &self.weight.from(self.panel)[..PANELS * size];
        let x = self.rows::<ROWS>();
        let panels: [*const i8; PANELS] = std::array::from_fn(|q| panels[q * size..].as_ptr());
        let mut acc = self.start::<ROWS, PANELS>();
        if groups.start > 0 {
            for q in 0..PANELS {
                for r in 0..ROWS {
                    for v in 0..PANEL_VECTORS {
                        let at = ((q * ROWS + r) * PANEL_VECTORS + v) * D::COLUMNS;
                        let kept = &sums[at..at + D::COLUMNS];
                        // SAFETY: the slice has as many elements as are read.
                        acc[q][r][v] = unsafe { d.start(kept.as_ptr().cast()) };
                    }
                }
            }
        }
        for g in groups {
            for q in 0..PANELS {
                // SAFETY: each panel has `all` groups of two vectors, and each row as many groups
                // of inputs.
                unsafe {
                    let at = panels[q].add(g * PANEL_VECTORS * vector);
                    if ROWS == 1 {
                        d.prefetch(at.wrapping_add(AHEAD));
                    }
                    let mut w = [d.weights(at); PANEL_VECTORS];
                    for (v, w) in w.iter_mut().enumerate().skip(1) {
                        *w = d.weights(at.add(v * vector));
                    }
                    for r in 0..ROWS {
                        let x = d.inputs(x[r].add(g * GROUP));
                        for v in 0..PANEL_VECTORS {
                            acc[q][r][v] = d.add(acc[q][r][v], x, w[v]);
                        }
                    }
                }
            }
        }
        self.store(acc, sums);
    }

    #[inline(always)]
    fn rows<const ROWS: usize>(self) -> [*const D::Input; ROWS] {
        let mut rows = [std::ptr::null(); ROWS];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = self.x.row::<D>(self.first + r).as_ptr();
        }
        rows
    }

    #[inline(always)]
    fn start<const ROWS: usize, const PANELS: usize>(
        self,
    ) -> [[[D::Sums; PANEL_VECTORS]; ROWS]; PANELS] {
        let starts = &self.weight.starts(self.panel)[..PANELS * PANEL_VECTORS * D::COLUMNS];
        // SAFETY: the slice has as many elements as are read.
        let of = |i: usize| unsafe { self.d.start(starts[i * D::COLUMNS..].as_ptr()) };
        let mut acc = [[[of(0); PANEL_VECTORS]; ROWS]; PANELS];
        for q in 0..PANELS {
            for v in 0..PANEL_VECTORS {
                let start = of(q * PANEL_VECTORS + v);
                for r in 0..ROWS {
                    acc[q][r][v] = start;
                }
            }
        }
        acc
    }

    #[inline(always)]
    fn store<const ROWS: usize, const PANELS: usize>(
        self,
        acc: [[[D::Sums; PANEL_VECTORS]; ROWS]; PANELS],
        sums: &mut [f32],
    ) {
        for q in 0..PANELS {
            for r in 0..ROWS {
                for v in 0..PANEL_VECTORS {
                    let at = ((q * ROWS + r) * PANEL_VECTORS + v) * D::COLUMNS;
                    self.d.store(acc[q][r][v], &mut sums[at..]);
                }
            }
        }
    }
}

/// How far ahead the product of a single row prefetches weights, since it mostly waits for memory.
const AHEAD: usize = 1024;
