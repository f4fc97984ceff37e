//! The Unigram model: expectation maximisation over the cuts of words, and pruning of the pieces
//! whose loss hurts least, in turns (Kudo 2018, section 3.2).
//!
//! As in the `sentencepiece` package, the M step takes the digamma of the expected counts: the mean
//! of a Dirichlet process that favours few pieces (P. Liang, "Structured Bayesian Nonparametric
//! Models with Variational Inference", 2007). Unlike there, pieces are never dropped below the
//! number that was asked for, so the vocabulary has exactly that size whenever the text has so many
//! pieces at all; and the pieces that stay in the end are estimated once more, so that their
//! probabilities are those of the model that is written.

use std::cmp::Ordering;

use super::{Scored, TooFew, corpus::Corpus, lattice::Lattice, seeds::seeds};

/// The share of pieces that survives a round of pruning.
const SURVIVING: f64 = 0.75;
/// Pruning stops at this many times the pieces wanted; the rest is chosen by score.
const SURPLUS: f64 = 1.1;
/// Turns of expectation maximisation between rounds of pruning.
const TURNS: usize = 2;
/// A piece that is expected more seldom is dropped.
const LEAST_EXPECTED: f64 = 0.5;

/// The pieces and their log-probabilities. The first are the characters, which always stay.
struct Model {
    pieces: Vec<String>,
    scores: Vec<f64>,
    characters: usize,
}

/// Learns `wanted` pieces, sorted by their log-probability.
pub(super) fn train(
    corpus: &Corpus,
    wanted: usize,
    seed_pieces: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Scored>, TooFew> {
    let seeds = seeds(corpus, seed_pieces.max(wanted.saturating_mul(2)));
    if seeds.len() < wanted {
        return Err(TooFew(seeds.len()));
    }
    let total: f64 = seeds.iter().map(|(_, weight)| weight).sum();
    let (pieces, scores) =
        seeds.into_iter().map(|(piece, weight)| (piece, (weight / total).ln())).unzip();
    let mut model = Model { pieces, scores, characters: corpus.alphabet.len() };
    let enough = ((wanted as f64 * SURPLUS) as usize).max(wanted);
    loop {
        progress(model.pieces.len());
        for _ in 0..TURNS {
            let expected = model.expect(corpus);
            model.maximize(&expected, wanted);
        }
        if model.pieces.len() <= enough {
            break;
        }
        let survivors = (model.pieces.len() as f64 * SURVIVING) as usize;
        model.prune(corpus, survivors.max(enough));
    }
    progress(wanted);
    model.keep_likely(wanted);
    for _ in 0..TURNS {
        let expected = model.expect(corpus);
        model.maximize(&expected, wanted);
    }
    Ok(model.sorted())
}

impl Model {
    /// How often each piece is expected in the corpus.
    fn expect(&self, corpus: &Corpus) -> Vec<f64> {
        let mut lattice = Lattice::new(&self.pieces, &self.scores);
        let mut expected = vec![0.0; self.pieces.len()];
        for (word, count) in &corpus.words {
            lattice.expect(word, *count as f64, &mut expected);
        }
        expected
    }

    /// New scores from expected counts. Drops the pieces that are hardly expected, but keeps all
    /// characters and at least `least` pieces.
    fn maximize(&mut self, expected: &[f64], least: usize) {
        let mut others: Vec<usize> = (self.characters..self.pieces.len()).collect();
        let enough = others.iter().filter(|&&id| expected[id] >= LEAST_EXPECTED).count();
        others.sort_by(|&a, &b| descending(expected[a], expected[b]));
        others.truncate(enough.max(least.saturating_sub(self.characters)));
        others.sort_unstable();
        let kept: Vec<usize> = (0..self.characters).chain(others).collect();

        let expected: Vec<f64> = kept.iter().map(|&id| expected[id].max(LEAST_EXPECTED)).collect();
        let total = digamma(expected.iter().sum());
        self.keep(&kept);
        self.scores = expected.iter().map(|&count| digamma(count) - total).collect();
    }

    /// Keeps the pieces without which the likelihood of the corpus would fall most.
    fn prune(&mut self, corpus: &Corpus, survivors: usize) {
        let loss = self.losses(corpus);
        let mut others: Vec<usize> = (self.characters..self.pieces.len()).collect();
        others.sort_by(|&a, &b| {
            descending(loss[a], loss[b])
                .then_with(|| descending(self.scores[a], self.scores[b]))
                .then_with(|| self.pieces[a].cmp(&self.pieces[b]))
        });
        others.truncate(survivors.saturating_sub(self.characters));
        others.sort_unstable();
        let kept: Vec<usize> = (0..self.characters).chain(others).collect();
        self.keep(&kept);
    }

    /// By how much the log-likelihood of a word falls, on average, if a piece is taken away and
    /// stretches cut into it are cut in the next best way. Estimated from the best cut alone.
    fn losses(&self, corpus: &Corpus) -> Vec<f64> {
        let mut lattice = Lattice::new(&self.pieces, &self.scores);
        let mut cut = Vec::new();
        let mut used = vec![0.0; self.pieces.len()];
        for (word, count) in &corpus.words {
            lattice.best(word, true, &mut cut);
            for &id in &cut {
                used[id as usize] += *count as f64;
            }
        }
        let total: f64 = used.iter().sum();
        let words: f64 = corpus.words.iter().map(|(_, count)| *count as f64).sum();
        let mut losses = vec![0.0; self.pieces.len()];
        for id in self.characters..self.pieces.len() {
            let times = used[id];
            if times == 0.0 {
                continue;
            }
            let Some(score) = lattice.best(&self.pieces[id], false, &mut cut) else { continue };
            if score > self.scores[id] {
                continue;
            }
            // The pieces that take over are used more often, and there are more of them in all.
            let with = times.ln() - total.ln();
            let new_total = (total + times * (cut.len() - 1) as f64).ln();
            let without: f64 =
                cut.iter().map(|&part| (used[part as usize] + times).ln() - new_total).sum();
            losses[id] = times / words * (with - without);
        }
        losses
    }

    fn keep(&mut self, kept: &[usize]) {
        self.pieces = kept.iter().map(|&id| std::mem::take(&mut self.pieces[id])).collect();
        self.scores = kept.iter().map(|&id| self.scores[id]).collect();
    }

    /// Keeps all characters and the most likely of the other pieces, `wanted` in all.
    fn keep_likely(&mut self, wanted: usize) {
        let mut ids: Vec<usize> = (0..self.pieces.len()).collect();
        ids[self.characters..].sort_by(|&a, &b| descending(self.scores[a], self.scores[b]));
        ids.truncate(wanted);
        ids.sort_unstable();
        self.keep(&ids);
    }

    /// The pieces by falling log-probability.
    fn sorted(self) -> Vec<Scored> {
        let mut sorted: Vec<(String, f64)> = self.pieces.into_iter().zip(self.scores).collect();
        sorted.sort_by(|a, b| descending(a.1, b.1));
        sorted.into_iter().map(|(piece, score)| (piece, score as f32)).collect()
    }
}

fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

/// The derivative of `ln Γ` at `x > 0`: by its recurrence up to 7, and from there by its asymptotic
/// series (Abramowitz and Stegun, "Handbook of Mathematical Functions", 6.3.5 and 6.3.18).
fn digamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 7.0 {
        below -= 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = square
        * (1.0 / 12.0
            - square
                * (1.0 / 120.0 - square * (1.0 / 252.0 - square * (1.0 / 240.0 - square / 132.0))));
    below + x.ln() - 0.5 / x - series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digamma_has_its_known_values() {
        let euler = 0.577_215_664_901_532_9;
        assert!((digamma(1.0) + euler).abs() < 1e-10);
        assert!((digamma(0.5) + euler + 2.0 * 2f64.ln()).abs() < 1e-10);
        assert!((digamma(100.0) - 4.600_161_852_738_087).abs() < 1e-12);
    }
}
