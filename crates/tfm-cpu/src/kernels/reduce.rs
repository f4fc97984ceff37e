//! Sums and maxima. Their order depends only on their length.

use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads, share};

/// Σ f(x).
#[inline(always)]
pub(super) fn sum_of<S: Simd>(s: S, x: &[f32], f: impl Fn(S::F) -> S::F) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let mut blocks = x.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        for (sum, x) in sums.iter_mut().zip(block.chunks_exact(S::LANES)) {
            *sum = s.add(*sum, f(s.load(x)));
        }
    }
    for (sum, x) in sums.iter_mut().zip(blocks.remainder().chunks(S::LANES)) {
        // The lanes beyond the end must add nothing, whatever f(0) is.
        let mut tail = [0.0; 16];
        s.store(f(s.load_partial(x)), &mut tail);
        *sum = s.add(*sum, s.load_partial(&tail[..x.len()]));
    }
    let [a, b, c, d] = sums;
    s.sum(s.add(s.add(a, b), s.add(c, d)))
}

/// Elements of a row that are summed by themselves, so that long sums lose little accuracy.
const SHORT: usize = 1024;

/// `out [outer, inner] = Σ` over the middle axis of `x [outer, extent, inner]`.
pub fn sum(isa: Isa, threads: &Threads, x: &[f32], extents: [usize; 3], out: &mut [f32]) {
    match extents {
        [_, extent, 1] => rows(threads, x, extent, out, |x| isa.run(Sum(x))),
        _ => columns(isa, threads, x, extents, out, false),
    }
}

/// `out [outer, inner]` = the maximum over the middle axis of `x [outer, extent, inner]`; −∞ if
/// that axis is empty.
pub fn max(isa: Isa, threads: &Threads, x: &[f32], extents: [usize; 3], out: &mut [f32]) {
    match extents {
        [_, extent, 1] => rows(threads, x, extent, out, |x| {
            x.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x))
        }),
        _ => columns(isa, threads, x, extents, out, true),
    }
}

/// `out[i] = f(row i of x)`.
fn rows(
    threads: &Threads,
    x: &[f32],
    cols: usize,
    out: &mut [f32],
    f: impl Fn(&[f32]) -> f32 + Sync,
) {
    assert_eq!(x.len(), out.len() * cols);
    threads.rows(out, 1, 2 * cols, |range, out| {
        for (i, out) in range.zip(out) {
            *out = f(&x[i * cols..(i + 1) * cols]);
        }
    });
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sum = 0.0;
        for x in self.0.chunks(SHORT) {
            sum += sum_of(s, x, |x| x);
        }
        sum
    }
}

/// Columns that one task reduces. Their sums stay in the first-level cache, and the part that it
/// reads of each row is several cache lines long.
const COLUMNS: usize = 256;
/// Rows that are summed before they are added to the rest, so that long sums lose little accuracy.
const BLOCK_ROWS: usize = 64;

fn columns(
    isa: Isa,
    threads: &Threads,
    x: &[f32],
    [outer, extent, inner]: [usize; 3],
    out: &mut [f32],
    max: bool,
) {
    assert!(x.len() == outer * extent * inner && out.len() == outer * inner);
    let blocks = inner.div_ceil(COLUMNS);
    let tasks = threads.tasks(2 * x.len(), outer * blocks);
    let out = SharedMut::new(out);
    threads.run(tasks, |task| {
        for item in share(outer * blocks, tasks, task) {
            let (i, first) = (item / blocks, item % blocks * COLUMNS);
            let count = COLUMNS.min(inner - first);
            // SAFETY: items have different columns, and each item is reduced once.
            let out = unsafe { out.slice(i * inner + first..i * inner + first + count) };
            let x = &x[i * extent * inner..][..extent * inner];
            isa.run(Columns { x, inner, first, max, out });
        }
    });
}

struct Columns<'a> {
    x: &'a [f32],
    inner: usize,
    first: usize,
    max: bool,
    out: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Columns { x, inner, first, max, out } = self;
        out.fill(if max { f32::NEG_INFINITY } else { 0.0 });
        let mut block_sums = [0.0; COLUMNS];
        for block in x.chunks(BLOCK_ROWS * inner) {
            let block_sums = &mut block_sums[..out.len()];
            if max {
                for row in block.chunks_exact(inner) {
                    add(s, out, &row[first..first + out.len()], |a, b| a.max(b));
                }
            } else {
                block_sums.fill(0.0);
                for row in block.chunks_exact(inner) {
                    add(s, block_sums, &row[first..first + out.len()], |a, b| a + b);
                }
                add(s, out, block_sums, |a, b| a + b);
            }
        }
    }
}

/// `sums = f(sums, x)`.
#[inline(always)]
fn add<S: Simd>(_: S, sums: &mut [f32], x: &[f32], f: impl Fn(f32, f32) -> f32) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum = f(*sum, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    #[test]
    fn rows_and_columns_equal_f64_with_any_threads() {
        for [outer, extent, inner] in
            [[1, 1, 1], [1, 0, 5], [3, 5, 7], [1, 640, 300], [2, 100, 33], [1, 5000, 257]]
        {
            let x = noise(1, outer * extent * inner);
            let line = |e: usize| {
                let start = e / inner * extent * inner + e % inner;
                let x = &x;
                (0..extent).map(move |p| x[start + p * inner])
            };
            let sums: Vec<f64> = (0..outer * inner).map(|e| line(e).map(f64::from).sum()).collect();
            let most: Vec<f32> =
                (0..outer * inner).map(|e| line(e).fold(f32::NEG_INFINITY, f32::max)).collect();
            let bound = (64 + extent / 64) as f64 * 2f64.powi(-24) * extent as f64;
            let turned: Vec<f32> = (0..outer * inner).flat_map(line).collect();
            let mut first: Option<(Isa, Vec<f32>)> = None;
            everywhere(|isa, threads| {
                let mut out = vec![9.0; outer * inner];
                max(isa, threads, &x, [outer, extent, inner], &mut out);
                assert_same_bits(&out, &most);
                sum(isa, threads, &turned, [outer * inner, extent, 1], &mut out);
                assert_near(&out, &sums, bound);
                let mut both = out.clone();
                sum(isa, threads, &x, [outer, extent, inner], &mut out);
                assert_near(&out, &sums, bound);
                both.extend(out);
                match &first {
                    Some((set, bits)) if *set == isa => assert_same_bits(&both, bits),
                    _ => first = Some((isa, both)),
                }
            });
        }
    }
}
