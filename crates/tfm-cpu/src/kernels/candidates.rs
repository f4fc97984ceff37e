//! The best entries of each row of a product with the vocabulary. The product is never whole in
//! memory.
//!
//! The kernel computes the product in chunks of a fixed number of columns. It keeps the greatest
//! logit of each chunk, the sum of exponentials relative to it, and the best candidates. It merges
//! the chunks in their order, so a row's result depends on the row alone.

use std::collections::TryReserveError;
use std::ops::Range;

use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd};
use super::softmax::sum_of_exponentials;
use super::threads::{SharedMut, Threads, share};
use super::top_k::{Best, Entry, best_of_parts, room};

/// A product `[m, n]` that can be computed in parts.
pub trait Product: Sync {
    /// The rows.
    fn rows(&self) -> usize;
    /// The columns.
    fn columns(&self) -> usize;
    /// The inner extent.
    fn depth(&self) -> usize;
    /// Computes these rows and columns on the calling thread, into `out`, whose rows are
    /// `out_stride` apart. The columns begin at a multiple of [`CHUNK`].
    fn part(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32], out_stride: usize);
}

/// Columns that are computed together. Their logits and weights stay in the second-level cache.
pub const CHUNK: usize = 512;

/// Rows that are computed together.
const ROWS: usize = 128;

/// What the best of each row are the best of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranked {
    /// The top k of `log softmax(product) + bias`, with the contract of
    /// [`super::top_k::top_log_probabilities`].
    LogProbabilities,
    /// The top k of `product + bias`, with the contract of [`super::top_k::top_k`].
    Logits,
}

/// The k greatest entries of each row of a product.
///
/// # Errors
/// There is no memory.
pub fn candidates(
    isa: Isa,
    threads: &Threads,
    scratch: &Scratch,
    product: &impl Product,
    (bias, ranked): (&[f32], Ranked),
    k: usize,
    (values, ids): (&mut [f32], &mut [i32]),
) -> Result<(), TryReserveError> {
    let (m, n) = (product.rows(), product.columns());
    assert!(bias.len() == n && k <= n && values.len() == m * k && ids.len() == m * k);
    if m == 0 || k == 0 {
        return Ok(());
    }
    let chunks = n.div_ceil(CHUNK);
    let work = m.saturating_mul(2 * n * product.depth());
    let tasks = threads.tasks(work, chunks);
    let size = ROWS.min(m) * CHUNK;
    let mut statistics = scratch.take(2 * m * chunks)?;
    let mut logits = scratch.take(tasks * size)?;
    let mut found = Found::of_tasks(tasks, m, k, |task| {
        let mine = share(chunks, tasks, task);
        mine.end.saturating_mul(CHUNK).min(n) - mine.start * CHUNK
    });
    {
        let statistics = SharedMut::new(&mut statistics);
        let logits = SharedMut::new(&mut logits);
        let found = SharedMut::new(&mut found);
        threads.run(tasks, |task| {
            let mine = share(chunks, tasks, task);
            // SAFETY: tasks have different chunks, and each has memory of its own.
            let (statistics, logits, found) = unsafe {
                (
                    statistics.slice(mine.start * 2 * m..mine.end * 2 * m),
                    logits.slice(task * size..(task + 1) * size),
                    &mut found.slice(task..task + 1)[0],
                )
            };
            for (chunk, statistics) in mine.zip(statistics.chunks_exact_mut(2 * m)) {
                let columns = chunk * CHUNK..((chunk + 1) * CHUNK).min(n);
                for first in (0..m).step_by(ROWS) {
                    let rows = first..(first + ROWS).min(m);
                    product.part(rows.clone(), columns.clone(), logits, CHUNK);
                    for (row, logits) in rows.zip(logits.chunks_exact(CHUNK)) {
                        let (logits, bias) = (&logits[..columns.len()], &bias[columns.clone()]);
                        let mut best = found.best(row);
                        let (best_so_far, first) = (&mut best, columns.start);
                        let scan = Scan { logits, bias, first, ranked, best: best_so_far };
                        let (max, sum) = isa.run(scan);
                        found.lengths[row] = best.len();
                        statistics[2 * row..2 * row + 2].copy_from_slice(&[max, sum]);
                    }
                }
            }
        });
    }
    let statistics = &statistics[..];
    Found::merge(&found, threads, (values, ids), |row, values, ids, best| {
        let of_row = |chunk: usize| {
            let at = (chunk * m + row) * 2;
            (statistics[at], statistics[at + 1])
        };
        let (max, log_sum) = log_sum((0..chunks).map(of_row));
        let is_undefined = log_sum.is_nan() && ranked == Ranked::LogProbabilities;
        for ((place, (value, id)), entry) in (0..).zip(values.iter_mut().zip(ids)).zip(best) {
            (*value, *id) = match ranked {
                Ranked::LogProbabilities if is_undefined => (f32::NAN, place),
                Ranked::LogProbabilities => ((entry.value - max) - log_sum, entry.id),
                Ranked::Logits => (entry.value, entry.id),
            };
        }
    });
    Ok(())
}

/// The best of each row among the columns that one task has searched.
pub(super) struct Found {
    k: usize,
    /// Entries of each row.
    room: usize,
    entries: Vec<Entry<f32>>,
    /// The number of entries of each row so far.
    pub(super) lengths: Vec<usize>,
}

impl Found {
    /// One for each task, with room for the k best of the columns that the task searches.
    pub(super) fn of_tasks(
        tasks: usize,
        rows: usize,
        k: usize,
        columns: impl Fn(usize) -> usize,
    ) -> Vec<Found> {
        let found = (0..tasks).map(|task| {
            let room = room(k, columns(task));
            Found { k, room, entries: vec![Entry::default(); rows * room], lengths: vec![0; rows] }
        });
        found.collect()
    }

    pub(super) fn best(&mut self, row: usize) -> Best<'_, f32> {
        let place = row * self.room..(row + 1) * self.room;
        Best::new(&mut self.entries[place], self.k, self.lengths[row])
    }

    fn part(&self, row: usize) -> &[Entry<f32>] {
        &self.entries[row * self.room..][..self.lengths[row]]
    }

    /// Merges what the tasks have found. `write` gets each row, its places in `values` and `ids`
    /// (both `[rows, k]`), and its k best in order.
    pub(super) fn merge(
        all: &[Found],
        threads: &Threads,
        (values, ids): (&mut [f32], &mut [i32]),
        write: impl Fn(usize, &mut [f32], &mut [i32], &[Entry<f32>]) + Sync,
    ) {
        let Some(&Found { k, .. }) = all.first() else { return };
        let ids = SharedMut::new(ids);
        threads.rows(values, k, OPERATIONS_AN_ENTRY * k, |rows, values| {
            let mut entries = Vec::new();
            for (row, values) in rows.zip(values.chunks_exact_mut(k)) {
                // SAFETY: only the task that has a row takes that row of the ids.
                let ids = unsafe { ids.slice(row * k..(row + 1) * k) };
                let parts = all.iter().map(|found| found.part(row));
                write(row, values, ids, best_of_parts(parts, k, &mut entries));
            }
        });
    }
}

/// The operations of a product that take as long as finding the place of one of the best.
const OPERATIONS_AN_ENTRY: usize = 800;

/// The greatest logit, and the logarithm of the sum of all exponentials relative to it. Both are
/// NaN if they are undefined.
pub(super) fn log_sum(chunks: impl Iterator<Item = (f32, f32)> + Clone) -> (f32, f32) {
    let max = chunks.clone().fold(f32::NEG_INFINITY, |max, (m, _)| if m > max { m } else { max });
    if max == f32::NEG_INFINITY {
        return (max, f32::NAN);
    }
    let sum: f32 = chunks.map(|(m, sum)| sum * (m - max).exp()).sum();
    (max, sum.ln())
}

/// Searches a chunk of a row's logits: finds the greatest, the sum of exponentials relative to it,
/// and the entries that belong to the best.
pub(super) struct Scan<'a, 'b> {
    pub(super) logits: &'a [f32],
    pub(super) bias: &'a [f32],
    /// The first column.
    pub(super) first: usize,
    pub(super) ranked: Ranked,
    pub(super) best: &'a mut Best<'b, f32>,
}

impl Kernel for Scan<'_, '_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) -> (f32, f32) {
        let logits = self.logits;
        let mut max = [s.splat(f32::NEG_INFINITY); SCANNED];
        let blocks = logits.chunks(SCANNED * S::LANES).zip(self.bias.chunks(SCANNED * S::LANES));
        for (block, (logits, bias)) in blocks.enumerate() {
            let first = self.first + block * SCANNED * S::LANES;
            if logits.len() == SCANNED * S::LANES {
                let mut y = [s.splat(0.0); SCANNED];
                for (v, (x, bias)) in
                    logits.chunks_exact(S::LANES).zip(bias.chunks_exact(S::LANES)).enumerate()
                {
                    let x = s.load(x);
                    max[v] = s.max(max[v], x);
                    y[v] = s.add(x, s.load(bias));
                }
                let greatest = s.max(s.max(y[0], y[1]), s.max(y[2], y[3]));
                // As soon as there are k, most blocks hold nothing that beats the last of them.
                if self.last().is_none_or(|last| s.gt(greatest, s.splat(last)) != 0) {
                    for (v, y) in y.into_iter().enumerate() {
                        self.offer(s, y, first + v * S::LANES, S::LANES);
                    }
                }
                continue;
            }
            for (v, (x, bias)) in logits.chunks(S::LANES).zip(bias.chunks(S::LANES)).enumerate() {
                max[v] =
                    s.max(max[v], s.splat(x.iter().copied().fold(f32::NEG_INFINITY, f32::max)));
                let y = s.add(s.load_partial(x), s.load_partial(bias));
                self.offer(s, y, first + v * S::LANES, x.len());
            }
        }
        if self.ranked == Ranked::Logits {
            return (0.0, 0.0);
        }
        let max = s.max_lane(s.max(s.max(max[0], max[1]), s.max(max[2], max[3])));
        let sum = if max > f32::NEG_INFINITY {
            sum_of_exponentials(s, logits, max)
        } else if logits.iter().all(|&x| x == f32::NEG_INFINITY) {
            0.0
        } else {
            f32::NAN
        };
        (max, sum)
    }
}

impl Scan<'_, '_> {
    /// The value that an entry has to exceed: the least of the best. `None` as long as there are
    /// fewer than k, or if the least is NaN.
    #[inline(always)]
    fn last(&self) -> Option<f32> {
        self.best.last().filter(|last| !last.is_nan())
    }

    /// Adds those of a vector's first `len` lanes that belong to the best.
    #[inline(always)]
    fn offer<S: Simd>(&mut self, s: S, y: S::F, first: usize, len: usize) {
        let mut lanes = [0.0; 16];
        let mut wanted = match self.last() {
            Some(last) => s.gt(y, s.splat(last)),
            None => u32::MAX,
        };
        wanted &= (1 << len) - 1;
        if wanted != 0 {
            s.store(y, &mut lanes);
        }
        while wanted != 0 {
            let lane = wanted.trailing_zeros() as usize;
            wanted &= wanted - 1;
            self.best.offer(lanes[lane], first + lane);
        }
    }
}

/// Vectors that are searched together.
const SCANNED: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::rows::Rows;
    use super::super::top_k::{top_k, top_log_probabilities};
    use super::*;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    const NOT: f32 = f32::NEG_INFINITY;

    /// A product that was computed before.
    struct Known<'a>(Rows<'a>);

    impl Product for Known<'_> {
        fn rows(&self) -> usize {
            self.0.rows()
        }
        fn columns(&self) -> usize {
            self.0.cols()
        }
        fn depth(&self) -> usize {
            5000 // enough that tasks divide it
        }
        fn part(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32], stride: usize) {
            for (row, out) in rows.zip(out.chunks_mut(stride)) {
                out[..columns.len()].copy_from_slice(&self.0.row(row)[columns.clone()]);
            }
        }
    }

    #[test]
    fn are_those_of_the_whole_product_also_where_it_is_not_finite() {
        for (m, n, k) in
            [(1, 1, 1), (3, 60, 60), (7, 1200, 5), (140, 1023, 8), (9, 2100, 700), (5, 1200, 50)]
        {
            let mut logits: Vec<f32> = noise(3, m * n).iter().map(|x| x * 20.0).collect();
            logits.iter_mut().step_by(7).skip(1).for_each(|x| *x = NOT);
            // Rows whose softmax is undefined: a NaN, +∞ in the last column, and no finite number.
            if m >= 7 {
                logits[n + 600] = f32::NAN;
                logits[3 * n - 1] = f32::INFINITY;
                logits[3 * n..4 * n].fill(NOT);
            }
            let mut bias = vec![0.0; n];
            bias.iter_mut().step_by(5).skip(1).for_each(|b| *b = NOT);
            let rows = Rows::contiguous(&logits, n);
            everywhere(|isa, threads| {
                let [mut want, mut got] = [(); 2].map(|_| (vec![0.0; m * k], vec![0; m * k]));
                top_log_probabilities(isa, threads, rows, &bias, k, &mut want.0, &mut want.1);
                let scratch = Scratch::new();
                let out = (&mut got.0[..], &mut got.1[..]);
                let ranked = (&bias[..], Ranked::LogProbabilities);
                candidates(isa, threads, &scratch, &Known(rows), ranked, k, out).unwrap();
                assert_eq!(got.1, want.1);
                for (got, want) in got.0.iter().zip(&want.0) {
                    let near = (got - want).abs() < 1e-4 || got == want;
                    assert!(near || got.is_nan() && want.is_nan(), "{got} and {want}");
                }
                let mut all = logits.clone();
                for row in all.chunks_exact_mut(n) {
                    row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
                }
                top_k(threads, Rows::contiguous(&all, n), k, &mut want.0, &mut want.1);
                let (out, ranked) = ((&mut got.0[..], &mut got.1[..]), (&bias[..], Ranked::Logits));
                candidates(isa, threads, &scratch, &Known(rows), ranked, k, out).unwrap();
                assert_eq!(got.1, want.1);
                assert_same_bits(&got.0, &want.0);
            });
        }
    }
}
