//! BLEU: K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation"
//! (2002).
//!
//! ```text
//! BLEU = 100 · BP · exp( 1/N · Σ_{n≤N} ln p_n ),  N = 4
//! p_n  = clipped matches of order n / n-grams of order n in the hypotheses
//! BP   = exp(min(0, 1 − reference length / hypothesis length))
//! ```

use std::{collections::HashMap, fmt};

use super::{
    BleuTokenizer, VERSION, check_lines,
    ngrams::{Counts, count, matches},
    significance::Metric,
};
use crate::{
    Error,
    whitespace::{strip_end, words},
};

/// The highest order of n-grams counted.
const ORDER: usize = 4;

/// What stands for the logarithm of zero.
const LOG_ZERO: f64 = -9_999_999_999.0;

/// What a precision with no match counts as (B. Chen and C. Cherry, "A systematic comparison of
/// smoothing techniques for sentence-level BLEU", 2014).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Smoothing {
    /// 1/2, 1/4, 1/8, … of a match (method 3, NIST's).
    #[default]
    Exp,
    /// This much of a match (method 1); sacreBLEU's usual value is 0.1.
    Floor(f64),
    /// This is added to matches and totals above order 1 (method 2); sacreBLEU's usual value is 1.
    AddK(f64),
    /// Nothing.
    None,
}

/// How to compute BLEU. The default is what `sacrebleu` does by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bleu {
    /// How lines are cut into words.
    pub tokenizer: BleuTokenizer,
    /// What a precision with no match counts as.
    pub smoothing: Smoothing,
    /// Whether upper and lower case are the same.
    pub lowercase: bool,
    /// Whether orders longer than the hypothesis are left out of the mean; wanted for single
    /// sentences.
    pub effective_order: bool,
}

/// A BLEU score with its parts. `Display` gives sacreBLEU's line:
/// `BLEU = 41.44 68.8/47.3/35.5/27.0 (BP = 0.986 ratio = 0.986 hyp_len = 7121 ref_len = 7223)`.
#[derive(Debug, Clone, PartialEq)]
pub struct BleuScore {
    /// The score, 0 to 100.
    pub score: f64,
    /// Precision of each order, in per cent, after smoothing.
    pub precisions: [f64; ORDER],
    /// Clipped matches of each order.
    pub matches: [u64; ORDER],
    /// Hypothesis n-grams of each order.
    pub totals: [u64; ORDER],
    /// The factor that too short hypotheses cost, 0 to 1.
    pub brevity_penalty: f64,
    /// Words in the hypotheses.
    pub hypothesis_len: u64,
    /// Words in the references; where there are several, in the one closest in length to each
    /// hypothesis.
    pub reference_len: u64,
}

/// Sums over the lines of a corpus.
#[derive(Default)]
struct Statistics {
    matches: [u64; ORDER],
    totals: [u64; ORDER],
    hypothesis_len: u64,
    reference_len: u64,
}

impl Bleu {
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
    ) -> Result<BleuScore, Error> {
        check_lines(hypotheses.len(), references)?;
        let mut statistics = Statistics::default();
        for (line, hypothesis) in hypotheses.iter().enumerate() {
            let references = references.iter().map(|reference| reference[line].as_ref());
            self.add_line(hypothesis.as_ref(), references, &mut statistics);
        }
        Ok(self.score(&statistics))
    }

    /// The score of one sentence. Consider [`effective_order`](Self::effective_order).
    ///
    /// # Errors
    /// [`Error::NothingToScore`] without references.
    pub fn sentence<R: AsRef<str>>(
        &self,
        hypothesis: &str,
        references: &[R],
    ) -> Result<BleuScore, Error> {
        if references.is_empty() {
            return Err(Error::NothingToScore);
        }
        let mut statistics = Statistics::default();
        self.add_line(hypothesis, references.iter().map(AsRef::as_ref), &mut statistics);
        Ok(self.score(&statistics))
    }

    /// How the score was computed, in sacreBLEU's notation:
    /// `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:…`. The version names this program,
    /// which computed the score; the fields before it are those of sacreBLEU 2.
    #[must_use]
    pub fn signature(&self, references: usize) -> String {
        let case = if self.lowercase { "lc" } else { "mixed" };
        let effective = if self.effective_order { "yes" } else { "no" };
        let smoothing = match self.smoothing {
            Smoothing::Exp => "exp".into(),
            Smoothing::Floor(value) => format!("floor[{value:.2}]"),
            Smoothing::AddK(value) => format!("add-k[{value:.2}]"),
            Smoothing::None => "none".to_owned(),
        };
        let tokenizer = self.tokenizer.name();
        format!(
            "nrefs:{references}|case:{case}|eff:{effective}|tok:{tokenizer}|smooth:{smoothing}|version:{VERSION}"
        )
    }

    fn preprocess(&self, line: &str) -> String {
        if self.lowercase {
            self.tokenizer.tokenize(strip_end(&line.to_lowercase()))
        } else {
            self.tokenizer.tokenize(strip_end(line))
        }
    }

    fn add_line<'r>(
        &self,
        hypothesis: &str,
        references: impl Iterator<Item = &'r str>,
        statistics: &mut Statistics,
    ) {
        let hypothesis = self.preprocess(hypothesis);
        let hypothesis: Vec<&str> = words(&hypothesis).collect();
        let references: Vec<String> = references.map(|line| self.preprocess(line)).collect();
        let references: Vec<Vec<&str>> =
            references.iter().map(|line| words(line).collect()).collect();

        let hypothesis_len = hypothesis.len() as u64;
        // The closest length, and of two equally close ones the shorter.
        let reference_len = references
            .iter()
            .map(|reference| reference.len() as u64)
            .min_by_key(|&len| (len.abs_diff(hypothesis_len), len))
            .unwrap_or(0);
        statistics.hypothesis_len += hypothesis_len;
        statistics.reference_len += reference_len;

        for order in 1..=ORDER {
            // An n-gram may match as often as it is in the reference that has it most often.
            let mut limits: Counts<'_, &str> = HashMap::new();
            for reference in &references {
                for (ngram, count) in count(reference, order) {
                    let limit = limits.entry(ngram).or_default();
                    *limit = count.max(*limit);
                }
            }
            let counts = count(&hypothesis, order);
            statistics.matches[order - 1] += matches(&counts, &limits);
            statistics.totals[order - 1] += counts.values().sum::<u64>();
        }
    }

    fn score(&self, statistics: &Statistics) -> BleuScore {
        let &Statistics { matches, totals, hypothesis_len, reference_len } = statistics;
        let brevity_penalty = if hypothesis_len >= reference_len {
            1.0
        } else if hypothesis_len > 0 {
            (1.0 - reference_len as f64 / hypothesis_len as f64).exp()
        } else {
            0.0
        };
        let mut precisions = [0.0; ORDER];
        let mut score = 0.0;
        if matches.iter().any(|&count| count > 0) {
            let orders = self.smooth(&matches, &totals, &mut precisions);
            let log = |&p: &f64| if p == 0.0 { LOG_ZERO } else { p.ln() };
            let sum: f64 = precisions[..orders].iter().map(log).sum();
            score = brevity_penalty * (sum / orders as f64).exp();
        }
        BleuScore {
            score,
            precisions,
            matches,
            totals,
            brevity_penalty,
            hypothesis_len,
            reference_len,
        }
    }

    /// Fills in the precisions; returns over how many orders to take the mean.
    fn smooth(&self, matches: &[u64], totals: &[u64], precisions: &mut [f64]) -> usize {
        let mut orders = ORDER;
        let mut divisor = 1.0;
        for n in 0..ORDER {
            let (mut matched, mut total) = (matches[n] as f64, totals[n] as f64);
            if let Smoothing::AddK(k) = self.smoothing
                && n > 0
            {
                matched += k;
                total += k;
            }
            if total == 0.0 {
                break;
            }
            if self.effective_order {
                orders = n + 1;
            }
            precisions[n] = match self.smoothing {
                _ if matched != 0.0 => 100.0 * matched / total,
                Smoothing::Exp => {
                    divisor *= 2.0;
                    100.0 / (divisor * total)
                }
                Smoothing::Floor(floor) => 100.0 * floor / total,
                Smoothing::AddK(_) | Smoothing::None => 0.0,
            };
        }
        orders
    }
}

impl Metric for Bleu {
    fn counts(&self, hypothesis: &str, references: &[&str]) -> Vec<f64> {
        let mut line = Statistics::default();
        self.add_line(hypothesis, references.iter().copied(), &mut line);
        let lengths = [line.hypothesis_len, line.reference_len];
        let counts = lengths.into_iter().chain(line.matches).chain(line.totals);
        counts.map(|count| count as f64).collect()
    }

    fn score_of(&self, sums: &[f64]) -> f64 {
        let sum = |index: usize| sums.get(index).map_or(0, |&sum| sum as u64);
        let statistics = Statistics {
            hypothesis_len: sum(0),
            reference_len: sum(1),
            matches: std::array::from_fn(|n| sum(2 + n)),
            totals: std::array::from_fn(|n| sum(2 + ORDER + n)),
        };
        self.score(&statistics).score
    }
}

impl fmt::Display for BleuScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p1, p2, p3, p4] = self.precisions;
        let ratio = match self.reference_len {
            0 => 0.0,
            reference => self.hypothesis_len as f64 / reference as f64,
        };
        write!(
            f,
            "BLEU = {:.2} {p1:.1}/{p2:.1}/{p3:.1}/{p4:.1} (BP = {:.3} ratio = {ratio:.3} hyp_len = {} ref_len = {})",
            self.score, self.brevity_penalty, self.hypothesis_len, self.reference_len
        )
    }
}
