//! chrF: M. Popović, "chrF: character n-gram F-score for automatic MT evaluation" (2015), and
//! chrF++, which counts word n-grams too ("chrF++: words helping character n-grams", 2017).
//!
//! ```text
//! chrFβ = 100 · (1+β²) · P·R / (β²·P + R),  β = 2
//! P, R  = mean over the orders of matches / n-grams in hypothesis, reference
//! ```

use std::{fmt, hash::Hash};

use super::{
    VERSION, check_lines,
    ngrams::{count, matches},
    significance::Metric,
};
use crate::{
    Error,
    whitespace::{is_space, words},
};

/// How many times as much recall counts as precision.
const BETA: f64 = 2.0;

/// How to compute chrF. The default is chrF2, what `sacrebleu -m chrf` does; [`Chrf::plus_plus`] is
/// chrF2++.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chrf {
    /// The highest order of character n-grams.
    pub char_order: usize,
    /// The highest order of word n-grams.
    pub word_order: usize,
    /// Whether upper and lower case are the same.
    pub lowercase: bool,
}

impl Default for Chrf {
    fn default() -> Self {
        Chrf { char_order: 6, word_order: 0, lowercase: false }
    }
}

/// A chrF score. `Display` gives sacreBLEU's line: `chrF2 = 59.37`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChrfScore {
    /// The score, 0 to 100.
    pub score: f64,
    /// The highest order of word n-grams, which the name shows as plus signs.
    pub word_order: usize,
}

/// Counts of one n-gram order.
#[derive(Debug, Clone, Copy, Default)]
struct Order {
    hypothesis: u64,
    reference: u64,
    matched: u64,
}

/// A line as the sequences that n-grams are taken from.
struct Line<'t> {
    chars: Vec<char>,
    words: Vec<&'t str>,
}

impl Chrf {
    /// chrF2++: character n-grams to 6 and word n-grams to 2.
    #[must_use]
    pub fn plus_plus() -> Self {
        Chrf { word_order: 2, ..Chrf::default() }
    }

    /// The score of a corpus: one hypothesis a line, and one or more references with a line for
    /// each.
    ///
    /// # Errors
    /// [`Error::NothingToScore`] without lines or references; [`Error::LineCount`] if their numbers
    /// differ.
    pub fn corpus<H: AsRef<str>, R: AsRef<str>>(
        &self,
        hypotheses: &[H],
        references: &[Vec<R>],
    ) -> Result<ChrfScore, Error> {
        check_lines(hypotheses.len(), references)?;
        let mut sums = vec![Order::default(); self.char_order + self.word_order];
        for (line, hypothesis) in hypotheses.iter().enumerate() {
            let references = references.iter().map(|reference| reference[line].as_ref());
            for (sum, order) in sums.iter_mut().zip(self.best(hypothesis.as_ref(), references)) {
                sum.hypothesis += order.hypothesis;
                sum.reference += order.reference;
                sum.matched += order.matched;
            }
        }
        Ok(ChrfScore { score: f_score(&sums), word_order: self.word_order })
    }

    /// The score of one sentence.
    ///
    /// # Errors
    /// [`Error::NothingToScore`] without references.
    pub fn sentence<R: AsRef<str>>(
        &self,
        hypothesis: &str,
        references: &[R],
    ) -> Result<ChrfScore, Error> {
        if references.is_empty() {
            return Err(Error::NothingToScore);
        }
        let orders = self.best(hypothesis, references.iter().map(AsRef::as_ref));
        Ok(ChrfScore { score: f_score(&orders), word_order: self.word_order })
    }

    /// How the score was computed, in sacreBLEU's notation:
    /// `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:…`. The version names this program,
    /// which computed the score; the fields before it are those of sacreBLEU 2.
    #[must_use]
    pub fn signature(&self, references: usize) -> String {
        let case = if self.lowercase { "lc" } else { "mixed" };
        let Chrf { char_order, word_order, .. } = self;
        format!(
            "nrefs:{references}|case:{case}|eff:yes|nc:{char_order}|nw:{word_order}|space:no|version:{VERSION}"
        )
    }

    /// The counts against the reference that scores best, the first of equals.
    fn best<'r>(&self, hypothesis: &str, references: impl Iterator<Item = &'r str>) -> Vec<Order> {
        let hypothesis = self.preprocess(hypothesis);
        let hypothesis = self.line(&hypothesis);
        let mut best: Option<(f64, Vec<Order>)> = None;
        for reference in references {
            let reference = self.preprocess(reference);
            let orders = self.compare(&hypothesis, &self.line(&reference));
            let score = f_score(&orders);
            if best.as_ref().is_none_or(|(best, _)| score > *best) {
                best = Some((score, orders));
            }
        }
        best.map(|(_, orders)| orders).unwrap_or_default()
    }

    fn preprocess(&self, line: &str) -> String {
        if self.lowercase { line.to_lowercase() } else { line.to_owned() }
    }

    fn line<'t>(&self, text: &'t str) -> Line<'t> {
        Line {
            chars: text.chars().filter(|&c| !is_space(c)).collect(),
            words: if self.word_order > 0 { split_punctuation(text) } else { Vec::new() },
        }
    }

    fn compare(&self, hypothesis: &Line<'_>, reference: &Line<'_>) -> Vec<Order> {
        let chars = (1..=self.char_order).map(|n| order(&hypothesis.chars, &reference.chars, n));
        let words = (1..=self.word_order).map(|n| order(&hypothesis.words, &reference.words, n));
        chars.chain(words).collect()
    }
}

fn order<T: Hash + Eq>(hypothesis: &[T], reference: &[T], n: usize) -> Order {
    let (hypothesis, reference) = (count(hypothesis, n), count(reference, n));
    let total = |counts: &super::ngrams::Counts<'_, T>| counts.values().sum();
    Order {
        // Where the reference has no n-grams of this order, those of the hypothesis do not count.
        hypothesis: if reference.is_empty() { 0 } else { total(&hypothesis) },
        reference: total(&reference),
        matched: matches(&hypothesis, &reference),
    }
}

/// Words, with one punctuation mark split off the end, or else off the beginning.
fn split_punctuation(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for word in words(text) {
        let mut chars = word.chars();
        match (chars.next(), chars.next_back()) {
            (Some(_), Some(last)) if last.is_ascii_punctuation() => {
                parts.extend([&word[..word.len() - 1], &word[word.len() - 1..]]);
            }
            (Some(first), Some(_)) if first.is_ascii_punctuation() => {
                parts.extend([&word[..1], &word[1..]]);
            }
            _ => parts.push(word),
        }
    }
    parts
}

/// The F-score of mean precision and recall over the orders that both sides have.
fn f_score(orders: &[Order]) -> f64 {
    let both: Vec<&Order> = orders.iter().filter(|o| o.hypothesis > 0 && o.reference > 0).collect();
    if both.is_empty() {
        return 0.0;
    }
    let mean = |ratio: fn(&Order) -> f64| {
        both.iter().map(|order| ratio(order)).fold(0.0, |sum, r| sum + r) / both.len() as f64
    };
    let precision = mean(|order| order.matched as f64 / order.hypothesis as f64);
    let recall = mean(|order| order.matched as f64 / order.reference as f64);
    if precision + recall == 0.0 {
        return 0.0;
    }
    let factor = BETA * BETA;
    100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
}

impl Metric for Chrf {
    fn counts(&self, hypothesis: &str, references: &[&str]) -> Vec<f64> {
        let orders = self.best(hypothesis, references.iter().copied());
        let counts = orders.iter().flat_map(|o| [o.hypothesis, o.reference, o.matched]);
        counts.map(|count| count as f64).collect()
    }

    fn score_of(&self, sums: &[f64]) -> f64 {
        let order = |of: &[f64]| Order {
            hypothesis: of[0] as u64,
            reference: of[1] as u64,
            matched: of[2] as u64,
        };
        f_score(&sums.chunks_exact(3).map(order).collect::<Vec<_>>())
    }
}

impl fmt::Display for ChrfScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chrF{BETA}{} = {:.2}", "+".repeat(self.word_order), self.score)
    }
}
