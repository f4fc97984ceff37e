//! Learned biases of attention's scores by the distance of key and query.

use super::{Operand, expect_shape};
use crate::{DType, Graph, Value};

/// The most buckets there may be, and the greatest distance: what a graph from outside may ask for
/// is bounded.
const MOST: [usize; 2] = [1024, 1 << 16];

/// What is added to the score of a key `distance` positions after its query: a learned number for
/// each head and bucket of distances (Raffel et al. 2020, "Exploring the limits of transfer
/// learning with a unified text-to-text transformer", section 2.1). Half of the buckets have one
/// distance each, the others as many as keep the ratio of their ends, up to `max_distance`; the
/// last has all that is beyond.
///
/// An op with such biases has an operand `bias [buckets, heads]` in `F32` for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeBias {
    /// The buckets in all.
    pub buckets: usize,
    /// From about this distance on there is one bucket.
    pub max_distance: usize,
    /// Whether keys after the query have the upper half of the buckets, and those up to it the
    /// lower; else keys after it are as near as the query's own.
    pub bidirectional: bool,
}

impl RelativeBias {
    /// The buckets of one direction, and how many of them have one distance each.
    fn counts(&self) -> (usize, usize) {
        let all = if self.bidirectional { self.buckets / 2 } else { self.buckets };
        (all, all / 2)
    }

    /// What is wrong with the numbers, or with the operand for the biases of so many heads.
    pub(super) fn check(&self, bias: Operand<'_>, heads: usize) -> Result<(), String> {
        let (all, exact) = self.counts();
        if all < 2 || self.buckets > MOST[0] {
            return Err(format!("there must be 2 to {} buckets a direction", MOST[0]));
        }
        if self.max_distance <= exact || self.max_distance > MOST[1] {
            let most = MOST[1];
            return Err(format!("the maximal distance must be in {} to {most}", exact + 1));
        }
        expect_shape("bias", bias, &[self.buckets, heads])?;
        if bias.dtype != DType::F32 {
            return Err(format!("bias must be f32, is {}", bias.dtype));
        }
        Ok(())
    }

    /// The bucket of keys `distance` positions after their query: `_relative_position_bucket` of
    /// `transformers`.
    pub fn bucket(&self, distance: i64) -> usize {
        let after = if distance > 0 { self.after() } else { 0 };
        let steps = if self.bidirectional { distance } else { distance.min(0) };
        after + self.bucket_of_steps(usize::try_from(steps.unsigned_abs()).unwrap_or(usize::MAX))
    }

    /// The bucket among those of one direction.
    fn bucket_of_steps(&self, steps: usize) -> usize {
        let (all, exact) = self.counts();
        if steps < exact {
            return steps;
        }
        // In f32, each logarithm rounded once: at which distance a bucket ends depends on it.
        let log = |x: f64| x.ln() as f32;
        let share = log(f64::from(steps as f32 / exact as f32));
        let share = share / log(self.max_distance as f64 / exact as f64);
        (exact + (share * (all - exact) as f32) as usize).min(all - 1)
    }

    /// The number of steps at which each bucket begins that has more than one, ascending. The
    /// bucket of some steps is the lesser of them and [`exact`](Self::exact), and one more for each
    /// beginning that they reach.
    pub fn beginnings(&self) -> Vec<usize> {
        let (all, exact) = self.counts();
        let begins = |bucket: usize| {
            let (mut below, mut reached) = (exact, self.max_distance);
            while below + 1 < reached {
                let middle = below.midpoint(reached);
                if self.bucket_of_steps(middle) < bucket {
                    below = middle;
                } else {
                    reached = middle;
                }
            }
            reached
        };
        (exact + 1..all).map(begins).collect()
    }

    /// Up to so many steps each has a bucket of its own, but for the direction.
    pub fn exact(&self) -> usize {
        self.counts().1
    }

    /// What the bucket of a key after the query has more than that of one as far before it; 0 where
    /// those after it are all as near as the query's own.
    pub fn after(&self) -> usize {
        if self.bidirectional { self.counts().0 } else { 0 }
    }

    /// Distances of this size or more, in one direction, have one bucket.
    pub fn reach(&self) -> usize {
        self.beginnings().last().copied().unwrap_or(self.exact())
    }

    /// The biases `[.., heads]` of keys at distances `[..]` in `I32`, of the biases
    /// `[buckets, heads]`.
    pub(super) fn of_distances(&self, graph: &mut Graph, bias: Value, distance: Value) -> Value {
        let reach = self.reach();
        // By distance, which is folded at load where the biases are parameters.
        let all = graph.iota(2 * reach + 1);
        let all = graph.shift(all, -(reach as f64));
        let buckets = self.buckets_of(graph, all);
        let by_distance = graph.gather(bias, buckets);
        let [least, most] = [-(reach as f64), reach as f64].map(|x| graph.constant(x, DType::I32));
        let distance = graph.max(distance, least);
        let distance = graph.min(distance, most);
        let place = graph.shift(distance, reach as f64);
        graph.gather(by_distance, place)
    }

    /// [`bucket`](Self::bucket) of each distance.
    fn buckets_of(&self, graph: &mut Graph, distance: Value) -> Value {
        let zero = graph.constant(0.0, DType::I32);
        let backward = graph.neg(distance);
        let steps = if self.bidirectional {
            graph.max(distance, backward)
        } else {
            graph.max(backward, zero)
        };
        let exact = graph.constant(self.exact() as f64, DType::I32);
        let mut bucket = graph.min(steps, exact);
        for begin in self.beginnings() {
            let before = graph.constant(begin as f64 - 1.0, DType::I32);
            let reached = graph.less(before, steps);
            bucket = graph.add(bucket, reached);
        }
        if self.bidirectional {
            let after = graph.less(zero, distance);
            let after = graph.scale(after, self.after() as f64);
            bucket = graph.add(bucket, after);
        }
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::RelativeBias;

    /// Buckets, maximal distance and whether bidirectional; then from -1200 to 1200 each distance
    /// at which the bucket changes, with the new one: `T5Attention._relative_position_bucket` of
    /// transformers 5.23.0 on torch 2.11.0.
    type Golden = (usize, usize, bool, &'static [(i64, usize)]);

    #[rustfmt::skip]
    const GOLDEN: [Golden; 8] = [
        (32, 128, true, &[
            (-1200, 15), (-90, 14), (-63, 13), (-45, 12), (-31, 11), (-22, 10), (-15, 9), (-11, 8),
            (-7, 7), (-6, 6), (-5, 5), (-4, 4), (-3, 3), (-2, 2), (-1, 1), (0, 0), (1, 17),
            (2, 18), (3, 19), (4, 20), (5, 21), (6, 22), (7, 23), (8, 24), (12, 25), (16, 26),
            (23, 27), (32, 28), (46, 29), (64, 30), (91, 31)
        ]),
        (32, 128, false, &[
            (-1200, 31), (-112, 30), (-98, 29), (-86, 28), (-76, 27), (-66, 26), (-58, 25),
            (-51, 24), (-45, 23), (-39, 22), (-34, 21), (-30, 20), (-26, 19), (-23, 18), (-20, 17),
            (-18, 16), (-15, 15), (-14, 14), (-13, 13), (-12, 12), (-11, 11), (-10, 10), (-9, 9),
            (-8, 8), (-7, 7), (-6, 6), (-5, 5), (-4, 4), (-3, 3), (-2, 2), (-1, 1), (0, 0)
        ]),
        (16, 40, true, &[
            (-1200, 7), (-22, 6), (-12, 5), (-7, 4), (-3, 3), (-2, 2), (-1, 1), (0, 0), (1, 9),
            (2, 10), (3, 11), (4, 12), (8, 13), (13, 14), (23, 15)
        ]),
        (8, 20, false, &[
            (-1200, 7), (-13, 6), (-8, 5), (-5, 4), (-3, 3), (-2, 2), (-1, 1), (0, 0)
        ]),
        (2, 5, false, &[
            (-1200, 1), (0, 0)
        ]),
        (7, 1000, false, &[
            (-1200, 6), (-234, 5), (-54, 4), (-12, 3), (-2, 2), (-1, 1), (0, 0)
        ]),
        (32, 17, false, &[
            (-1200, 31), (-16, 16), (-15, 15), (-14, 14), (-13, 13), (-12, 12), (-11, 11),
            (-10, 10), (-9, 9), (-8, 8), (-7, 7), (-6, 6), (-5, 5), (-4, 4), (-3, 3), (-2, 2),
            (-1, 1), (0, 0)
        ]),
        (4, 3, true, &[
            (-1200, 1), (0, 0), (1, 3)
        ]),
    ];

    #[test]
    fn buckets_are_those_of_transformers() {
        for (buckets, max_distance, bidirectional, runs) in GOLDEN {
            let bias = RelativeBias { buckets, max_distance, bidirectional };
            let ends = runs[1..].iter().map(|run| run.0).chain([1201]);
            for (&(begin, bucket), end) in runs.iter().zip(ends) {
                for distance in begin..end {
                    assert_eq!(bias.bucket(distance), bucket, "{bias:?}, {distance}");
                }
            }
            for far in [i64::MIN, -100_000, 100_000, i64::MAX] {
                let last = if far < 0 { runs[0] } else { runs[runs.len() - 1] };
                assert_eq!(bias.bucket(far), last.1, "{bias:?}, {far}");
            }
        }
    }

    #[test]
    fn beginnings_and_reach_say_the_same() {
        for (buckets, max_distance, bidirectional, _) in GOLDEN {
            let bias = RelativeBias { buckets, max_distance, bidirectional };
            let (beginnings, reach) = (bias.beginnings(), bias.reach() as i64);
            for steps in 0..1300usize {
                let reached = beginnings.iter().filter(|begin| **begin <= steps).count();
                assert_eq!(bias.bucket(-(steps as i64)), steps.min(bias.exact()) + reached);
            }
            assert_eq!(bias.bucket(-reach), bias.bucket(-100_000));
            assert_ne!(bias.bucket(1 - reach), bias.bucket(-reach), "{bias:?}");
        }
    }
}
