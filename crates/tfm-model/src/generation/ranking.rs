//! The best continuations of a step over all live hypotheses.

use std::cmp::Ordering;

/// A hypothesis continued by a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// The sum of log-probabilities, this token's included.
    pub(super) sum: f32,
    pub(super) log_probability: f32,
    pub(super) token: u32,
    /// The live hypothesis it continues.
    pub(super) beam: u32,
}

/// The best candidates seen. Of equals the one seen first is the better, so that candidates shown
/// beyond those needed never change the outcome.
///
/// Up to twice the capacity are collected; then a selection takes the best of them. So a candidate
/// costs a constant time on average, whatever the capacity is.
#[derive(Debug, Clone)]
pub(super) struct Ranking {
    capacity: usize,
    /// Once there are as many as the capacity, the worst of the best stands at the end of the
    /// capacity.
    found: Vec<Ranked>,
    seen: usize,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    candidate: Candidate,
    /// How many were seen before it.
    place: usize,
}

impl Ranked {
    /// The better first.
    fn order(&self, other: &Self) -> Ordering {
        let sums = other.candidate.sum.partial_cmp(&self.candidate.sum);
        sums.unwrap_or(Ordering::Equal).then(self.place.cmp(&other.place))
    }
}

impl Ranking {
    /// A ranking of the `capacity` best, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Ranking { capacity: capacity.max(1), found: Vec::new(), seen: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
        self.seen = 0;
    }

    /// Whether a candidate with this sum may be among the best. Its sum is a number.
    pub(super) fn admits(&self, sum: f32) -> bool {
        self.found.get(self.capacity - 1).is_none_or(|worst| sum > worst.candidate.sum)
    }

    /// Takes in a candidate, whose sum is a number, if it may be among the best.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        if !self.admits(candidate.sum) {
            return;
        }
        self.found.push(Ranked { candidate, place: self.seen });
        self.seen += 1;
        if self.found.len() == self.capacity || self.found.len() == self.capacity.saturating_mul(2)
        {
            self.select();
        }
    }

    /// The sum of the worst of the best, once there are as many as the capacity.
    pub(super) fn worst(&mut self) -> Option<f32> {
        if self.found.len() > self.capacity {
            self.select();
        }
        self.found.get(self.capacity - 1).map(|worst| worst.candidate.sum)
    }

    /// Keeps the best alone, the worst of them last.
    fn select(&mut self) {
        self.found.select_nth_unstable_by(self.capacity - 1, Ranked::order);
        self.found.truncate(self.capacity);
    }

    /// Puts the best in order and returns how many there are. No more are offered before the
    /// ranking is cleared.
    pub(super) fn sort(&mut self) -> usize {
        if self.found.len() > self.capacity {
            self.select();
        }
        self.found.sort_unstable_by(Ranked::order);
        self.found.len()
    }

    /// The candidate of a rank, after [`Ranking::sort`].
    pub(super) fn of_rank(&self, rank: usize) -> Candidate {
        self.found[rank].candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few different sums, so that there are many equals.
        #[test]
        fn is_the_beginning_of_a_stable_sort(sums in proptest::collection::vec(-4i8..4, 0..120), capacity in 1usize..40) {
            let mut ranking = Ranking::new(capacity);
            for _ in 0..2 {
                ranking.clear();
                for (token, &sum) in (0..).zip(&sums) {
                    let sum = f32::from(sum);
                    ranking.offer(Candidate { sum, log_probability: 0.0, token, beam: 0 });
                }
                let count = ranking.sort();
                let got: Vec<u32> = (0..count).map(|rank| ranking.of_rank(rank).token).collect();
                let mut want: Vec<u32> = (0..sums.len() as u32).collect();
                want.sort_by_key(|&token| -i16::from(sums[token as usize]));
                want.truncate(capacity);
                prop_assert_eq!(got, want);
            }
        }
    }
}
