//! The best of each row among columns of its own.

use super::candidates::{CHUNK, Ranked, Scan, log_sum};
use super::simd::Isa;
use super::threads::{SharedMut, Threads, share};
use super::top_k::{Best, Entry, room};

/// Lists of columns, and the list of each row.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    /// `[lists, width]`
    pub places: &'a [i32],
    /// Places from one list to the next.
    pub width: usize,
    /// The number of columns in each list.
    pub lengths: &'a [i32],
    /// The number of each row's list.
    pub list_of: &'a [i32],
}

impl<'a> Lists<'a> {
    /// The columns of a row's list, followed by what fills up its row; and the number of columns.
    fn of(&self, row: usize) -> (&'a [i32], usize) {
        let list = self.list_of[row] as usize;
        let places = &self.places[list * self.width..][..self.width];
        (places, self.lengths[list] as usize)
    }
}

/// Where the best of each row are written.
#[derive(Debug)]
pub struct Found<'a> {
    /// `[rows, k]`
    pub values: &'a mut [f32],
    /// `[rows, k]`, places in the rows' lists.
    pub places: &'a mut [i32],
    /// `[rows]`, the logarithm of the sum of the exponentials of a row's own logits.
    pub log_sum_exps: &'a mut [f32],
}

/// The operations of a product that take as long as one column of a list.
const OPERATIONS_A_COLUMN: usize = 60;

/// The k most probable of each row of `logits` among the columns of its list: the top k of
/// `log softmax(own logits) + own bias`. If a list has fewer columns, the rest is −∞.
///
/// The logits of a list are collected first, and then searched like those of a whole vocabulary. So
/// a list of all columns in their order gives the same bits as [`super::candidates::candidates`].
pub fn best_of_lists(
    isa: Isa,
    threads: &Threads,
    logits: &[f32],
    bias: &[f32],
    lists: Lists<'_>,
    k: usize,
    found: Found<'_>,
) {
    let (columns, rows) = (bias.len(), lists.list_of.len());
    assert!(logits.len() >= rows * columns && k <= lists.width);
    assert!(found.values.len() == rows * k && found.places.len() == rows * k);
    assert!(found.log_sum_exps.len() == rows);
    let work = OPERATIONS_A_COLUMN * rows * lists.width;
    let tasks = threads.tasks(work, rows);
    let values = SharedMut::new(found.values);
    let places = SharedMut::new(found.places);
    let log_sum_exps = SharedMut::new(found.log_sum_exps);
    threads.run(tasks, |task| {
        let mut statistics = Vec::new();
        let mut entries = vec![Entry::default(); room(k, lists.width)];
        for row in share(rows, tasks, task) {
            // SAFETY: tasks have different rows.
            let (values, places, log_sum_exp) = unsafe {
                (
                    values.slice(row * k..(row + 1) * k),
                    places.slice(row * k..(row + 1) * k),
                    &mut log_sum_exps.slice(row..row + 1)[0],
                )
            };
            let own =
                Own { logits: &logits[row * columns..][..columns], bias, list: lists.of(row) };
            *log_sum_exp = own.best(isa, &mut statistics, &mut entries, values, places);
        }
    });
}

/// A row and its list.
struct Own<'a> {
    logits: &'a [f32],
    bias: &'a [f32],
    list: (&'a [i32], usize),
}

impl Own<'_> {
    fn best(
        &self,
        isa: Isa,
        statistics: &mut Vec<(f32, f32)>,
        entries: &mut [Entry<f32>],
        values: &mut [f32],
        places: &mut [i32],
    ) -> f32 {
        let list = &self.list.0[..self.list.1];
        let mut best = Best::new(entries, values.len(), 0);
        let (mut logits, mut bias) = ([0.0; CHUNK], [0.0; CHUNK]);
        statistics.clear();
        for (chunk, list) in list.chunks(CHUNK).enumerate() {
            for ((logit, bias), &place) in logits.iter_mut().zip(&mut bias).zip(list) {
                *logit = self.logits[place as usize];
                *bias = self.bias[place as usize];
            }
            let (logits, bias) = (&logits[..list.len()], &bias[..list.len()]);
            let scan = Scan {
                logits,
                bias,
                first: chunk * CHUNK,
                ranked: Ranked::LogProbabilities,
                best: &mut best,
            };
            statistics.push(isa.run(scan));
        }
        let (max, log_sum) = log_sum(statistics.iter().copied());
        if log_sum.is_nan() {
            values.fill(f32::NAN);
            places.iter_mut().zip(0..).for_each(|(place, i)| *place = i);
            return f32::NAN;
        }
        // If the list has fewer columns, the rest follows by place.
        values.fill(f32::NEG_INFINITY);
        places.iter_mut().zip(0..).for_each(|(place, i)| *place = i);
        for ((value, place), entry) in values.iter_mut().zip(places).zip(best.sorted()) {
            (*value, *place) = ((entry.value - max) - log_sum, entry.id);
        }
        max + log_sum
    }
}
