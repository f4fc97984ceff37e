//! The k best of each row: of any numbers, and of the log-probabilities of logits.

mod entry;

pub(super) use entry::Entry;
pub use entry::Rankable;

use super::rows::Rows;
use super::simd::{Isa, Kernel, Simd};
use super::softmax::{max, sum_of_exponentials};
use super::threads::{SharedMut, Threads};
use entry::beats;

/// The k greatest of the entries that are offered, in the order of [`top_k`].
///
/// Up to [`FEW`] stay in order, and an entry that belongs to them is inserted. Of more, up to 2k
/// are collected; then a selection takes the k greatest of them. So an entry costs a constant time
/// on average, whatever k is.
pub(super) struct Best<'a, T> {
    /// Room for as many as [`room`] says.
    entries: &'a mut [Entry<T>],
    k: usize,
    /// How many there are so far.
    len: usize,
}

/// The most that are kept in order. Above it a selection is faster than insertions.
const FEW: usize = 32;

/// How many entries [`Best`] needs room for to find the k greatest of `columns`.
pub(super) fn room(k: usize, columns: usize) -> usize {
    if k <= FEW { k.min(columns) } else { (2 * k).min(columns) }
}

impl<'a, T: Rankable> Best<'a, T> {
    /// Begins with the first `len` of `entries`, which are what [`Best::len`] entries were before.
    #[inline(always)]
    pub(super) fn new(entries: &'a mut [Entry<T>], k: usize, len: usize) -> Self {
        Best { entries, k, len }
    }

    /// How many entries there are; after the end [`Best::sorted`] has at most k of them.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The least of the best, once there are as many as are wanted.
    #[inline(always)]
    pub(super) fn last(&self) -> Option<T> {
        self.last_entry().map(|last| last.value)
    }

    /// It stands at its place in both ways of keeping them.
    #[inline(always)]
    fn last_entry(&self) -> Option<&Entry<T>> {
        if self.len >= self.k { self.entries.get(self.k.wrapping_sub(1)) } else { None }
    }

    /// Takes in an entry if it belongs to the best so far. Its column is greater than that of every
    /// equal entry before.
    #[inline(always)]
    pub(super) fn offer(&mut self, value: T, id: usize) {
        if self.last_entry().is_none_or(|last| beats(value, last.value)) {
            self.take(Entry { value, id: id as i32 });
        }
    }

    #[inline(always)]
    fn take(&mut self, entry: Entry<T>) {
        if self.k > FEW {
            self.collect(entry);
        } else if self.k > 0 {
            self.insert(entry);
        }
    }

    #[inline(always)]
    fn insert(&mut self, entry: Entry<T>) {
        self.len = (self.len + 1).min(self.k);
        let mut at = self.len - 1;
        while at > 0 && entry.precedes(&self.entries[at - 1]) {
            self.entries[at] = self.entries[at - 1];
            at -= 1;
        }
        self.entries[at] = entry;
    }

    #[inline(never)]
    fn collect(&mut self, entry: Entry<T>) {
        self.entries[self.len] = entry;
        self.len += 1;
        if self.len == self.k || self.len == 2 * self.k {
            self.select();
        }
    }

    /// Keeps the k greatest alone, with the least of them in the last place.
    fn select(&mut self) {
        self.entries[..self.len].select_nth_unstable_by_key(self.k - 1, Entry::key);
        self.len = self.k;
    }

    /// The k best, or as many as there were, in order.
    pub(super) fn sorted(mut self) -> &'a [Entry<T>] {
        if self.k > FEW {
            if self.len > self.k {
                self.select();
            }
            self.entries[..self.len].sort_unstable_by_key(Entry::key);
        }
        &self.entries[..self.len]
    }
}

/// The k best of all that tasks have found in the parts of a row, in order. `entries` is room for
/// them, of which nothing is kept.
pub(super) fn best_of_parts<'a, 'b, T: Rankable + 'b>(
    parts: impl Iterator<Item = &'b [Entry<T>]>,
    k: usize,
    entries: &'a mut Vec<Entry<T>>,
) -> &'a [Entry<T>] {
    entries.clear();
    parts.for_each(|part| entries.extend_from_slice(part));
    if k < entries.len() {
        if k > 0 {
            entries.select_nth_unstable_by_key(k - 1, Entry::key);
        }
        entries.truncate(k);
    }
    entries.sort_unstable_by_key(Entry::key);
    entries
}

/// The `k` greatest of each row, greatest first, the lower index first among equals:
/// `values [rows, k]` and `indices [rows, k]`. NaN ranks last. Panics when k exceeds the row.
pub fn top_k<T: Rankable>(
    threads: &Threads,
    x: Rows<'_, T>,
    k: usize,
    values: &mut [T],
    indices: &mut [i32],
) {
    each_row(threads, x, k, values, indices, 2, |row, best| {
        for (id, &value) in row.iter().enumerate() {
            best.offer(value, id);
        }
    });
}

/// The k most probable entries of each row of logits: the top k of `log softmax(x) + bias`, in the
/// order of [`top_k`]. Where a row's softmax is undefined (NaN or +∞ among the logits, or nothing
/// finite), its values are NaN and its ids the lowest.
pub fn top_log_probabilities(
    isa: Isa,
    threads: &Threads,
    x: Rows<'_>,
    bias: &[f32],
    k: usize,
    values: &mut [f32],
    ids: &mut [i32],
) {
    assert_eq!(bias.len(), x.cols());
    each_row(threads, x, k, values, ids, 30, |logits, best| {
        isa.run(TopRow { logits, bias, best });
    });
}

fn each_row<T: Rankable>(
    threads: &Threads,
    x: Rows<'_, T>,
    k: usize,
    values: &mut [T],
    ids: &mut [i32],
    work: usize,
    offer_row: impl Fn(&[T], &mut Best<'_, T>) + Sync,
) {
    assert!(k <= x.cols() && values.len() == x.rows() * k && ids.len() == values.len());
    if k == 0 {
        return;
    }
    let ids = SharedMut::new(ids);
    threads.rows(values, k, work * x.cols(), |range, values| {
        let mut entries = vec![Entry { value: values[0], id: 0 }; room(k, x.cols())];
        for (i, values) in range.zip(values.chunks_mut(k)) {
            // SAFETY: each row of the ids is taken once, by the task that has the row.
            let ids = unsafe { ids.slice(i * k..(i + 1) * k) };
            let mut best = Best::new(&mut entries, k, 0);
            offer_row(x.row(i), &mut best);
            for ((entry, value), id) in best.sorted().iter().zip(values).zip(ids) {
                (*value, *id) = (entry.value, entry.id);
            }
        }
    });
}

struct TopRow<'a, 'b> {
    logits: &'a [f32],
    bias: &'a [f32],
    best: &'a mut Best<'b, f32>,
}

impl Kernel for TopRow<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let max = max(s, self.logits);
        let log_sum = sum_of_exponentials(s, self.logits, max).ln();
        let (shift, normaliser) = (s.splat(max), s.splat(log_sum));
        let rows = self.logits.chunks(S::LANES).zip(self.bias.chunks(S::LANES));
        let mut lanes = [0.0; 16];
        let mut last = None;
        for (i, (x, bias)) in rows.enumerate() {
            let y = s.sub(s.sub(s.load_partial(x), shift), normaliser);
            let y = s.add(y, s.load_partial(bias));
            // Once there are k, most vectors hold nothing that beats the last of them.
            if let Some(last) = last
                && !log_sum.is_nan()
                && s.gt(y, s.splat(last)) == 0
            {
                continue;
            }
            s.store(y, &mut lanes);
            for (lane, &y) in lanes[..x.len()].iter().enumerate() {
                self.best.offer(y, i * S::LANES + lane);
            }
            last = self.best.last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    const NOT: f32 = f32::NEG_INFINITY;

    #[test]
    fn equals_a_stable_sort() {
        for (rows, cols, k) in [
            (1, 1, 1),
            (4, 9, 9),
            (3, 100, 8),
            (50, 5000, 64),
            (3, 3000, 700),
            (2, 100, 100),
            (2, 90, 60),
            (2, 6, 0),
        ] {
            // Coarse, so that there are many equals, and without −0, which equals 0.
            let data: Vec<f32> =
                noise(1, rows * cols).iter().map(|x| (x * 9.0).round() + 0.0).collect();
            let x = Rows::contiguous(&data, cols);
            let sorted = |i: usize| {
                let mut ids: Vec<i32> = (0..cols as i32).collect();
                ids.sort_by(|&a, &b| x.row(i)[b as usize].total_cmp(&x.row(i)[a as usize]));
                ids.truncate(k);
                ids
            };
            let want: Vec<i32> = (0..rows).flat_map(sorted).collect();
            everywhere(|_, threads| {
                let (mut values, mut ids) = (vec![0.0; rows * k], vec![0; rows * k]);
                top_k(threads, x, k, &mut values, &mut ids);
                assert_eq!(ids, want);
                for (j, value) in values.iter().enumerate() {
                    assert_eq!(*value, x.row(j / k)[ids[j] as usize]);
                }
            });
        }
    }

    #[test]
    fn nan_ranks_last() {
        let threads = Threads::new(1).unwrap();
        let (mut values, mut ids) = ([0.0; 4], [0; 4]);
        let x = [f32::NAN, NOT, f32::NAN, 3.0];
        top_k(&threads, Rows::contiguous(&x, 4), 4, &mut values, &mut ids);
        assert_eq!(ids, [3, 1, 0, 2]);
        top_k(&threads, Rows::contiguous(&x, 4), 2, &mut values[..2], &mut ids[..2]);
        assert_eq!(ids[..2], [3, 1]);
        // So many that they are selected.
        let (mut values, mut ids) = ([0.0; 100], [0; 100]);
        let mut x = [f32::NAN; 200];
        (x[120], x[190]) = (NOT, 1.0);
        top_k(&threads, Rows::contiguous(&x, 200), 100, &mut values, &mut ids);
        let others: Vec<i32> = (0..98).collect();
        assert_eq!((&ids[..2], &ids[2..]), (&[190, 120][..], &others[..]));
    }

    #[test]
    fn log_probabilities_are_the_top_of_the_log_softmax() {
        for (rows, cols, k) in [(1, 1, 1), (3, 17, 17), (5, 100, 4), (40, 5003, 12), (3, 5003, 900)]
        {
            let data: Vec<f32> = noise(7, rows * cols).iter().map(|x| x * 30.0).collect();
            let x = Rows::contiguous(&data, cols);
            let mut bias = vec![0.0; cols];
            bias.iter_mut().step_by(5).skip(1).for_each(|b| *b = NOT);
            everywhere(|isa, threads| {
                let mut log_softmax = vec![0.0; rows * cols];
                crate::kernels::softmax::softmax(isa, threads, x, true, &mut log_softmax);
                log_softmax.iter_mut().enumerate().for_each(|(i, y)| *y += bias[i % cols]);
                let [mut want, mut got] = [(); 2].map(|_| (vec![0.0; rows * k], vec![0; rows * k]));
                top_k(threads, Rows::contiguous(&log_softmax, cols), k, &mut want.0, &mut want.1);
                top_log_probabilities(isa, threads, x, &bias, k, &mut got.0, &mut got.1);
                assert_eq!(got.1, want.1);
                assert_same_bits(&got.0, &want.0);
            });
        }
    }

    #[test]
    fn rows_with_little_to_choose_from() {
        everywhere(|isa, threads| {
            let run = |x: &[f32], bias: &[f32]| {
                let (mut values, mut ids) = ([0.0; 3], [0; 3]);
                let x = Rows::contiguous(x, bias.len());
                top_log_probabilities(isa, threads, x, bias, 3, &mut values, &mut ids);
                (values, ids)
            };
            // All but one banned: the others follow by id, all impossible.
            let (values, ids) =
                run(&[5.0; 40], &[[NOT; 30].as_slice(), &[0.0], &[NOT; 9]].concat());
            assert_eq!(ids, [30, 0, 1]);
            assert!((values[0] + 40f32.ln()).abs() < 1e-6 && values[1..] == [NOT; 2]);
            let mut broken = [1.0; 40];
            broken[20] = f32::NAN;
            let (values, ids) = run(&broken, &[0.0; 40]);
            assert!(ids == [0, 1, 2] && values.iter().all(|y| y.is_nan()));
        });
    }
}
