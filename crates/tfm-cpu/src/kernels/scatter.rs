//! Adds rows to the rows of a table that their ids name.

use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads, share};

/// `out = 0`, then `out[ids[i], :] += src[i, :]` in the order of i, for rows of `width` elements.
/// Panics if an id is not a row.
pub fn scatter_add(
    isa: Isa,
    threads: &Threads,
    src: &[f32],
    ids: &[i32],
    width: usize,
    out: &mut [f32],
) {
    assert_eq!(src.len(), ids.len() * width);
    let Some(rows) = out.len().checked_div(width) else { return };
    assert_eq!(out.len(), rows * width);
    assert!(ids.iter().all(|&id| usize::try_from(id).is_ok_and(|id| id < rows)), "ids of rows");
    // Work is divided by columns, in whole cache lines: a task adds up its columns of all rows.
    let lines = width.div_ceil(16);
    let tasks = threads.tasks(4 * out.len() + 4 * src.len(), lines.div_ceil(4));
    let tasks = tasks.min(threads.count());
    let out = SharedMut::new(out);
    threads.run(tasks, |task| {
        let mine = share(lines, tasks, task);
        let columns = (mine.start * 16).min(width)..(mine.end * 16).min(width);
        let part = |row: usize| {
            // SAFETY: tasks have different columns, and a task holds one slice at a time.
            unsafe { out.slice(row * width + columns.start..row * width + columns.end) }
        };
        (0..rows).for_each(|row| part(row).fill(0.0));
        for (i, &id) in ids.iter().enumerate() {
            let x = &src[i * width..][columns.clone()];
            isa.run(Add { sums: part(id as usize), x });
        }
    });
}

struct Add<'a> {
    sums: &'a mut [f32],
    x: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (sum, x) in self.sums.chunks_mut(S::LANES).zip(self.x.chunks(S::LANES)) {
            s.store_partial(s.add(s.load_partial(sum), s.load_partial(x)), sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    #[test]
    fn adds_in_the_order_of_the_ids_with_any_threads() {
        for (count, rows, width) in [(0, 3, 5), (5, 2, 1), (40, 7, 33), (300, 5, 700), (3, 4, 0)] {
            let src = noise(1, count * width);
            let ids: Vec<i32> = (0..count).map(|i| (i * i % rows) as i32).collect();
            let mut want = vec![0.0; rows * width];
            for (i, &id) in ids.iter().enumerate() {
                for j in 0..width {
                    want[id as usize * width + j] += src[i * width + j];
                }
            }
            everywhere(|isa, threads| {
                let mut out = vec![9.0; rows * width];
                scatter_add(isa, threads, &src, &ids, width, &mut out);
                assert_same_bits(&out, &want);
            });
        }
    }
}
