//! The Unigram model: the cut of a text whose pieces have the highest sum of log-probabilities.
//!
//! One pass of Viterbi over byte positions; only the best way to reach each position is kept. Sums
//! are taken in `f32`, and of equal sums the first found stays, so that ties fall as in the
//! reference implementation.

use super::{Segment, proto::PieceKind, utf8::announced_len, vocabulary::Vocabulary};

/// How much worse than the worst piece an unknown character is.
const UNK_PENALTY: f32 = 10.0;

#[derive(Debug)]
pub(super) struct Unigram {
    unk_score: f32,
}

/// The best way to reach a position.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    /// Where its last piece begins.
    begin: u32,
    id: u32,
}

const UNREACHED: u32 = u32::MAX;

impl Unigram {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let min_score =
            vocabulary.normal_scores().fold(f32::MAX, |min, s| if s < min { s } else { min });
        Unigram { unk_score: min_score - UNK_PENALTY }
    }

    /// Draws a cut of normalised text, whose length fits `u32`: each with its probability to the
    /// power `alpha`, which is finite. `uniform` gives numbers in [0, 1).
    pub(super) fn sample(
        &self,
        vocabulary: &Vocabulary,
        text: &[u8],
        alpha: f64,
        mut uniform: impl FnMut() -> f64,
    ) -> Vec<Segment> {
        // For each position, the logarithm of the sum over all cuts of the rest of the text.
        let mut rest = vec![0.0; text.len() + 1];
        let mut terms = Vec::new();
        for begin in (0..text.len()).rev() {
            terms.clear();
            self.for_each_piece(vocabulary, text, begin, |end, _, score| {
                terms.push(weight(score, alpha) + rest[end]);
            });
            rest[begin] = log_sum(&terms);
        }
        let mut segments = Vec::with_capacity(text.len() / 3 + 1);
        let mut begin = 0;
        while begin < text.len() {
            let mut left = uniform();
            let mut drawn = None;
            self.for_each_piece(vocabulary, text, begin, |end, id, score| {
                // Rounding may leave a bit after the last piece, which is then taken.
                if left >= 0.0 {
                    left -= (weight(score, alpha) + rest[end] - rest[begin]).exp();
                    drawn = Some((end, id));
                }
            });
            let Some((end, id)) = drawn else { break };
            segments.push(Segment { id, begin: begin as u32, end: end as u32 });
            begin = end;
        }
        segments
    }

    /// Visits the pieces that stand at `begin`, the unknown one where no character is: where each
    /// ends, id and score.
    #[inline]
    fn for_each_piece(
        &self,
        vocabulary: &Vocabulary,
        text: &[u8],
        begin: usize,
        mut visit: impl FnMut(usize, u32, f32),
    ) {
        let trie = vocabulary.normal();
        let char_len = announced_len(text[begin]).min(text.len() - begin);
        let mut char_is_a_piece = false;
        let mut place = trie.root();
        for (end, &byte) in text.iter().enumerate().skip(begin) {
            let Some(next) = trie.step(place, byte) else { break };
            place = next;
            let Some(id) = trie.value(place) else { continue };
            let end = end + 1;
            let score = match vocabulary.kind(id) {
                PieceKind::Unused => continue,
                PieceKind::UserDefined => user_defined_score(end - begin),
                _ => vocabulary.score(id),
            };
            visit(end, id, score);
            char_is_a_piece |= end - begin == char_len;
        }
        if !char_is_a_piece {
            visit(begin + char_len, vocabulary.unk_id(), self.unk_score);
        }
    }

    /// Cuts normalised text, whose length fits `u32`, into segments.
    pub(super) fn segment(&self, vocabulary: &Vocabulary, text: &[u8]) -> Vec<Segment> {
        let mut best = vec![Best { score: 0.0, begin: UNREACHED, id: 0 }; text.len() + 1];
        let mut begin = 0;
        while begin < text.len() {
            let so_far = best[begin].score;
            self.for_each_piece(vocabulary, text, begin, |end, id, score| {
                best[end].improve(score + so_far, begin, id);
            });
            begin += announced_len(text[begin]).min(text.len() - begin);
        }
        trace_back(&best)
    }
}

/// The logarithm of a piece's weight. Bounded, so that no model file can make sums of weights that
/// are not numbers.
fn weight(score: f32, alpha: f64) -> f64 {
    let weight = alpha * f64::from(score);
    if weight.is_nan() { 0.0 } else { weight.clamp(-1e9, 1e9) }
}

/// `ln Σ exp(term)` of finite terms, of which there is at least one.
fn log_sum(terms: &[f64]) -> f64 {
    let most = terms.iter().copied().fold(f64::MIN, f64::max);
    most + terms.iter().map(|term| (term - most).exp()).sum::<f64>().ln()
}

/// The score of a user-defined symbol of so many bytes, whatever the model says: above that of any
/// log-probability, and the longer the better.
fn user_defined_score(len: usize) -> f32 {
    (0.1 * (len - 1) as f64) as f32
}

impl Best {
    #[inline]
    fn improve(&mut self, score: f32, begin: usize, id: u32) {
        if self.begin == UNREACHED || score > self.score {
            *self = Best { score, begin: begin as u32, id };
        }
    }
}

fn trace_back(best: &[Best]) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(best.len() / 4 + 1);
    let mut end = best.len() - 1;
    while end > 0 {
        let Best { begin, id, .. } = best[end];
        segments.push(Segment { id, begin, end: end as u32 });
        end = begin as usize;
    }
    segments.reverse();
    segments
}
