//! All cuts of a word into pieces: what each piece is expected to do in them, and the best one.

use crate::trie::Trie;

/// Pieces with log-probabilities, and room for the work on one word.
///
/// Every character of every word must be a piece.
pub(super) struct Lattice<'s> {
    trie: Trie,
    scores: &'s [f64],
    edges: Vec<Edge>,
    forward: Vec<f64>,
    backward: Vec<f64>,
}

/// A piece at a place of the word.
#[derive(Clone, Copy)]
struct Edge {
    begin: u32,
    end: u32,
    id: u32,
}

impl<'s> Lattice<'s> {
    pub(super) fn new(pieces: &[String], scores: &'s [f64]) -> Self {
        let trie = Trie::new(pieces.iter().zip(0..).map(|(piece, id)| (piece.as_bytes(), id)));
        Lattice { trie, scores, edges: Vec::new(), forward: Vec::new(), backward: Vec::new() }
    }

    /// Finds all pieces of a word, by their beginnings.
    fn read(&mut self, word: &str) {
        self.edges.clear();
        let bytes = word.as_bytes();
        for begin in word.char_indices().map(|(begin, _)| begin) {
            let mut place = self.trie.root();
            for (end, &byte) in bytes.iter().enumerate().skip(begin) {
                let Some(next) = self.trie.step(place, byte) else { break };
                place = next;
                if let Some(id) = self.trie.value(place) {
                    self.edges.push(Edge { begin: begin as u32, end: end as u32 + 1, id });
                }
            }
        }
    }

    /// Adds to `expected` how often each piece stands in a cut of `word`, over all cuts by their
    /// probabilities, times `weight`. The log-probability of the word.
    pub(super) fn expect(&mut self, word: &str, weight: f64, expected: &mut [f64]) -> f64 {
        self.read(word);
        let end = word.len();
        for sums in [&mut self.forward, &mut self.backward] {
            sums.clear();
            sums.resize(end + 1, f64::NEG_INFINITY);
        }
        self.forward[0] = 0.0;
        self.backward[end] = 0.0;
        let score = |edge: &Edge| self.scores[edge.id as usize];
        for edge in &self.edges {
            let path = self.forward[edge.begin as usize] + score(edge);
            log_add(&mut self.forward[edge.end as usize], path);
        }
        for edge in self.edges.iter().rev() {
            let path = self.backward[edge.end as usize] + score(edge);
            log_add(&mut self.backward[edge.begin as usize], path);
        }
        let total = self.forward[end];
        for edge in &self.edges {
            let path =
                self.forward[edge.begin as usize] + score(edge) + self.backward[edge.end as usize];
            expected[edge.id as usize] += weight * (path - total).exp();
        }
        total
    }

    /// The ids of the best cut, last piece first. Without `whole`, the cut into one piece does not
    /// count; `None` if there is no other.
    pub(super) fn best(&mut self, word: &str, whole: bool, cut: &mut Vec<u32>) -> Option<f64> {
        self.read(word);
        let end = word.len();
        self.forward.clear();
        self.forward.resize(end + 1, f64::NEG_INFINITY);
        self.forward[0] = 0.0;
        let mut last = vec![None; end + 1];
        for edge in &self.edges {
            if !whole && edge.begin == 0 && edge.end as usize == end {
                continue;
            }
            let path = self.forward[edge.begin as usize] + self.scores[edge.id as usize];
            let to = edge.end as usize;
            if last[to].is_none() || path > self.forward[to] {
                self.forward[to] = path;
                last[to] = Some(*edge);
            }
        }
        cut.clear();
        let mut at = end;
        while at > 0 {
            let edge = last[at]?;
            cut.push(edge.id);
            at = edge.begin as usize;
        }
        Some(self.forward[end])
    }
}

/// `sum = ln(exp(sum) + exp(term))`
fn log_add(sum: &mut f64, term: f64) {
    let (high, low) = if *sum > term { (*sum, term) } else { (term, *sum) };
    // Both are minus infinity at places that no character ends at.
    if low > f64::NEG_INFINITY {
        *sum = high + (low - high).exp().ln_1p();
    } else {
        *sum = high;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_and_the_best_cut_are_those_of_all_cuts() {
        // Cuts of "aba": a·b·a, ab·a, a·ba, aba.
        let pieces = ["a", "b", "ab", "ba", "aba"].map(str::to_owned);
        let probabilities: [f64; 5] = [0.4, 0.3, 0.15, 0.1, 0.05];
        let scores = probabilities.map(f64::ln);
        let mut lattice = Lattice::new(&pieces, &scores);
        let cuts = [0.4 * 0.3 * 0.4, 0.15 * 0.4, 0.4 * 0.1, 0.05];
        let total: f64 = cuts.iter().sum();
        let mut expected = [0.0; 5];
        let found = lattice.expect("aba", 2.0, &mut expected);
        assert!((found - total.ln()).abs() < 1e-12);
        let by_hand = [2.0 * cuts[0] + cuts[1] + cuts[2], cuts[0], cuts[1], cuts[2], cuts[3]];
        for (found, by_hand) in expected.iter().zip(by_hand) {
            assert!((found - 2.0 * by_hand / total).abs() < 1e-12);
        }
        let mut cut = Vec::new();
        assert!(lattice.best("aba", true, &mut cut).is_some());
        assert_eq!(cut, [0, 2]);
        lattice.best("ab", false, &mut cut);
        assert_eq!(cut, [1, 0]);
        assert_eq!(lattice.best("a", false, &mut cut), None);
    }
}
