//! IBM Model 1: how probable each target token is as the translation of a source token, by
//! expectation maximisation.
//!
//! Each token of a target sentence is the translation of one token of its source sentence, or of
//! none, and each of these is as likely as the others (Brown et al. 1993, section 4.2). With
//! `t(f|e)` the probabilities so far, a token f of a target sentence counts as one of e by `t(f|e)
//! / Σ t(f|e')` over the e' of the source sentence (their equation 17); the counts of e,
//! normalised, are the new `t(·|e)` (equation 14).
//!
//! The expectation step is a pass over the sentences, which computes the sum of each target token.
//! The maximisation step is a pass over the source tokens, each with the sentences that it occurs
//! in. In both, no two threads add to the same number, so the result has the same bits on any
//! number of threads.

use rayon::prelude::*;

/// Sentences of token ids, concatenated.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    tokens: Vec<u32>,
    ends: Vec<usize>,
}

impl Sentences {
    pub(super) fn push(&mut self, tokens: impl Iterator<Item = u32>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn range(&self, sentence: usize) -> std::ops::Range<usize> {
        sentence.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[sentence]
    }

    fn get(&self, sentence: usize) -> &[u32] {
        &self.tokens[self.range(sentence)]
    }
}

/// The probabilities of target tokens that occurred with a source token.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Ascending.
    pub(super) targets: Vec<u32>,
    pub(super) probabilities: Vec<f32>,
}

impl Row {
    fn probability(&self, target: u32) -> f32 {
        self.targets.binary_search(&target).map_or(0.0, |place| self.probabilities[place])
    }
}

/// Parallel sentences and the probabilities of their tokens so far.
pub(super) struct Model1<'a> {
    source: &'a Sentences,
    target: &'a Sentences,
    /// For each source token the sentences that it occurs in, once per occurrence; those of the
    /// empty word last.
    occurrences: Vec<u32>,
    /// For each source token, and the empty word, the end of its part of these.
    ends: Vec<usize>,
    rows: Vec<Row>,
    target_vocabulary: usize,
    /// For each target token of the sentences the sum over the source tokens.
    sums: Vec<f32>,
}

/// Sentences whose expectations one task computes.
const PORTION: usize = 1024;

/// The numbers of one task for every target token.
struct Scratch {
    counts: Vec<f64>,
    /// Each token's place in the row, plus one; 0 for a token that the row lacks.
    places: Vec<u32>,
}

impl<'a> Model1<'a> {
    /// The model before the first iteration. It keeps at most `most` pairs of tokens that occur
    /// together: the source tokens with the longest rows lose their rarest pairs.
    pub(super) fn new(
        source: &'a Sentences,
        target: &'a Sentences,
        (source_vocabulary, target_vocabulary): (usize, usize),
        most: usize,
    ) -> Self {
        let mut ends = vec![0usize; source_vocabulary + 1];
        source.tokens.iter().for_each(|&token| ends[token as usize] += 1);
        ends[source_vocabulary] = source.len();
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        let mut occurrences = vec![0u32; start];
        let mut add = |token: usize, sentence: usize| {
            occurrences[ends[token]] = sentence as u32;
            ends[token] += 1;
        };
        for sentence in 0..source.len() {
            source.get(sentence).iter().for_each(|&token| add(token as usize, sentence));
            add(source_vocabulary, sentence);
        }
        let sums = vec![0.0; target.tokens.len()];
        let rows = Vec::new();
        let mut model = Model1 { source, target, occurrences, ends, rows, target_vocabulary, sums };
        let counted = |token: usize, scratch: &mut Scratch| model.together(token, scratch).len();
        let lengths: Vec<usize> = model.each_token(counted);
        let longest = longest(&lengths, most);
        model.rows = model.each_token(|token, scratch| model.first_row(token, longest, scratch));
        model
    }

    /// The results of `compute` for each source token, the empty word last.
    fn each_token<T: Send>(&self, compute: impl Fn(usize, &mut Scratch) -> T + Sync) -> Vec<T> {
        let scratch = || Scratch {
            counts: vec![0.0; self.target_vocabulary],
            places: vec![0; self.target_vocabulary],
        };
        let tokens = (0..self.ends.len()).into_par_iter();
        tokens.map_init(scratch, |scratch, token| compute(token, scratch)).collect()
    }

    /// The sentences that a source token occurs in.
    fn sentences(&self, token: usize) -> impl Iterator<Item = usize> {
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.occurrences[start..self.ends[token]].iter().map(|&sentence| sentence as usize)
    }

    /// The target tokens that occur together with a source token, and how often.
    fn together(&self, token: usize, scratch: &mut Scratch) -> Vec<(u32, f64)> {
        let mut found = Vec::new();
        for sentence in self.sentences(token) {
            for &target in self.target.get(sentence) {
                let count = &mut scratch.counts[target as usize];
                if *count == 0.0 {
                    found.push((target, 0.0));
                }
                *count += 1.0;
            }
        }
        for (target, count) in &mut found {
            *count = std::mem::take(&mut scratch.counts[*target as usize]);
        }
        found
    }

    /// All target tokens that occur together with a source token, equally probable.
    fn first_row(&self, token: usize, longest: usize, scratch: &mut Scratch) -> Row {
        let mut found = self.together(token, scratch);
        if found.len() > longest {
            found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            found.truncate(longest);
        }
        let mut targets: Vec<u32> = found.into_iter().map(|(target, _)| target).collect();
        targets.sort_unstable();
        let probabilities = vec![1.0 / targets.len().max(1) as f32; targets.len()];
        Row { targets, probabilities }
    }

    /// One iteration of expectation and maximisation.
    pub(super) fn iterate(&mut self) {
        let mut sums = std::mem::take(&mut self.sums);
        let mut portions = Vec::new();
        let mut rest = &mut sums[..];
        for first in (0..self.target.len()).step_by(PORTION) {
            let last = (first + PORTION).min(self.target.len()) - 1;
            let length = self.target.range(last).end - self.target.range(first).start;
            let (portion, others) = rest.split_at_mut(length);
            portions.push((first..=last, portion));
            rest = others;
        }
        portions.into_par_iter().for_each(|(sentences, portion)| {
            let targets = sentences.flat_map(|sentence| {
                self.target.get(sentence).iter().map(move |&target| (sentence, target))
            });
            for (sum, (sentence, target)) in portion.iter_mut().zip(targets) {
                *sum = self.sum(sentence, target);
            }
        });
        self.sums = sums;
        self.rows = self.each_token(|token, scratch| self.maximised(token, scratch));
    }

    /// The sum of the probabilities of a target token over the tokens of a source sentence and the
    /// empty word.
    fn sum(&self, sentence: usize, target: u32) -> f32 {
        let empty = &self.rows[self.rows.len() - 1];
        let tokens = self.source.get(sentence).iter().map(|&token| &self.rows[token as usize]);
        tokens.chain([empty]).map(|row| row.probability(target)).sum()
    }

    /// The row of a source token, from its expected counts.
    fn maximised(&self, token: usize, scratch: &mut Scratch) -> Row {
        let Row { targets, probabilities } = &self.rows[token];
        for (place, &target) in (1..).zip(targets) {
            scratch.places[target as usize] = place;
        }
        let counts = &mut scratch.counts[..targets.len()];
        for sentence in self.sentences(token) {
            let range = self.target.range(sentence);
            for (&target, &sum) in self.target.tokens[range.clone()].iter().zip(&self.sums[range]) {
                let place = scratch.places[target as usize] as usize;
                // A target token whose pairs were all left out has no sum.
                if place > 0 && sum > 0.0 {
                    counts[place - 1] += f64::from(probabilities[place - 1] / sum);
                }
            }
        }
        let total: f64 = counts.iter().sum();
        let share = if total > 0.0 { 1.0 / total } else { 0.0 };
        let probabilities =
            counts.iter_mut().map(|count| (std::mem::take(count) * share) as f32).collect();
        targets.iter().for_each(|&target| scratch.places[target as usize] = 0);
        Row { targets: targets.clone(), probabilities }
    }

    /// The rows of the source tokens, without that of the empty word.
    pub(super) fn into_rows(mut self) -> Vec<Row> {
        self.rows.pop();
        self.rows
    }
}

/// The greatest length with which rows of these lengths, cut to it, have at most `most` entries
/// together; at least 1.
fn longest(lengths: &[usize], most: usize) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let mut left = most;
    for (shorter, &length) in sorted.iter().enumerate() {
        // Those not shorter share what is left.
        let share = left / (sorted.len() - shorter);
        if length > share {
            return share.max(1);
        }
        left -= length;
    }
    sorted.last().copied().unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(sentences: &[&[u32]]) -> Sentences {
        let mut all = Sentences::default();
        sentences.iter().for_each(|sentence| all.push(sentence.iter().copied()));
        all
    }

    fn learnt(source: &[&[u32]], target: &[&[u32]], most: usize, iterations: usize) -> Vec<Row> {
        let (source, target) = (sentences(source), sentences(target));
        let mut model = Model1::new(&source, &target, (4, 4), most);
        (0..iterations).for_each(|_| model.iterate());
        model.into_rows()
    }

    #[test]
    fn an_iteration_is_that_of_the_equations() {
        // Source 0 1 ↔ target 2 3, source 0 ↔ target 2; all t(f|e) of what occurs together are 1/2
        // at first.
        let rows = learnt(&[&[0, 1], &[0]], &[&[2, 3], &[2]], 100, 1);
        // First sentence: each of 0, 1 and the empty word explains a third of 2 and of 3. Second: 0
        // and the empty word half.
        assert_eq!(rows[0].targets, [2, 3]);
        let expected = [(1.0 / 3.0 + 0.5) / (2.0 / 3.0 + 0.5), 1.0 / 3.0 / (2.0 / 3.0 + 0.5)];
        for (found, expected) in rows[0].probabilities.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} and {expected}");
        }
        assert_eq!(rows[1].probabilities, [0.5, 0.5]);
        assert!(rows[2].targets.is_empty());
    }

    #[test]
    fn what_occurs_apart_is_told_apart() {
        let (source, target): (&[&[u32]], &[&[u32]]) =
            (&[&[0, 1], &[0], &[1, 2], &[2], &[0, 2]], &[&[1, 2], &[1], &[2, 3], &[3], &[1, 3]]);
        let rows = learnt(source, target, 100, 8);
        for token in 0..3u32 {
            let row = &rows[token as usize];
            assert!(row.probability(token + 1) > 0.8, "{token}: {row:?}");
        }
    }

    #[test]
    fn there_are_no_more_pairs_than_are_allowed() {
        assert_eq!(longest(&[5, 1, 9, 3], 100), 9);
        assert_eq!(longest(&[5, 1, 9, 3], 12), 4);
        assert_eq!(longest(&[5, 1, 9, 3], 2), 1);
        assert_eq!(longest(&[], 2), 1);
        let rows = learnt(&[&[0, 1], &[0]], &[&[1, 2, 3], &[2, 3]], 6, 2);
        assert_eq!(rows[0].targets, [2, 3], "what occurs together the most often is kept");
        assert!(rows.iter().all(|row| row.targets.len() <= 2));
    }
}
