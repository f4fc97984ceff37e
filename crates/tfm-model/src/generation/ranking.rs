//! The best continuations of a step over all live hypotheses.

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

/// The best candidates seen, best first. Of equals the one seen first is the better, so that
/// candidates shown beyond those needed never change the outcome.
#[derive(Debug, Clone)]
pub(super) struct Ranking {
    capacity: usize,
    best: Vec<Candidate>,
}

impl Ranking {
    pub(super) fn new(capacity: usize) -> Self {
        Ranking { capacity, best: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.best.clear();
    }

    pub(super) fn best(&self) -> &[Candidate] {
        &self.best
    }

    /// Whether a candidate with this sum would be kept.
    pub(super) fn admits(&self, sum: f32) -> bool {
        self.best.len() < self.capacity || self.best.last().is_some_and(|worst| sum > worst.sum)
    }

    pub(super) fn offer(&mut self, candidate: Candidate) {
        if !self.admits(candidate.sum) {
            return;
        }
        self.best.truncate(self.capacity - 1);
        let place = self.best.iter().rposition(|better| better.sum >= candidate.sum);
        self.best.insert(place.map_or(0, |place| place + 1), candidate);
    }
}
