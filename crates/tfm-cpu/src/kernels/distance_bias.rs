//! Biases of attention's scores by the distance of key and query.

use tfm_core::fused::{KeyRows, RelativeBias};

use super::attention::most_keys;
use super::simd::Simd;

/// The biases of all distances that a call has, laid out so that those of a query's scores lie side
/// by side.
#[derive(Debug)]
pub struct DistanceBias {
    /// The least distance.
    first: isize,
    /// The bucket of each distance from there on.
    buckets: Vec<usize>,
    /// `[heads, distances]`
    biases: Vec<f32>,
    /// How many buckets there are.
    count: usize,
}

impl DistanceBias {
    /// Of the biases `[buckets, heads]`, those of the distances that so many queries and keys have
    /// by `rows`.
    pub fn new(
        bias: RelativeBias,
        table: &[f32],
        heads: usize,
        [queries, key_rows]: [usize; 2],
        (rows, causal): (KeyRows<&[i32]>, bool),
    ) -> DistanceBias {
        assert_eq!(table.len(), bias.buckets * heads);
        let (keys, after) = most_keys(rows, causal);
        // What is said may be more than there is, which the kernels refuse.
        let (keys, after) = match rows {
            KeyRows::Ranges { .. } => (keys.min(key_rows), after.min(queries)),
            KeyRows::Table { row_table, lengths } => {
                (keys.min(row_table.len() / lengths.len().max(1)), after)
            }
        };
        let first = 1 - keys.max(1) as isize;
        let distances = first..=after as isize;
        let buckets: Vec<usize> = distances.map(|distance| bias.bucket(distance as i64)).collect();
        let of_head = |head: usize| buckets.iter().map(move |bucket| table[bucket * heads + head]);
        let biases = (0..heads).flat_map(of_head).collect();
        DistanceBias { first, buckets, biases, count: bias.buckets }
    }

    /// How many buckets there are.
    pub(super) fn buckets(&self) -> usize {
        self.count
    }

    /// How many distances.
    pub(super) fn distances(&self) -> usize {
        self.buckets.len()
    }

    /// `x = scale·x + bias` for the scores of one query, whose first key is `distance` positions
    /// after it.
    #[inline(always)]
    pub(super) fn add<S: Simd>(
        &self,
        s: S,
        (scale, head): (f32, usize),
        distance: isize,
        scores: &mut [f32],
    ) {
        let start = head * self.buckets.len() + self.place(distance);
        let (biases, scale) = (&self.biases[start..][..scores.len()], s.splat(scale));
        for (x, bias) in scores.chunks_mut(S::LANES).zip(biases.chunks(S::LANES)) {
            s.store_partial(s.fma(s.load_partial(x), scale, s.load_partial(bias)), x);
        }
    }

    /// Where a distance is among all.
    #[inline(always)]
    pub(super) fn place(&self, distance: isize) -> usize {
        usize::try_from(distance - self.first).expect("no key is further than the call said")
    }

    /// Adds sums by distance to sums by bucket.
    pub(super) fn fold(&self, by_distance: &[f32], by_bucket: &mut [f32]) {
        for (bucket, sum) in self.buckets.iter().zip(by_distance) {
            by_bucket[*bucket] += sum;
        }
    }
}
