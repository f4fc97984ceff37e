//! TER: M. Snover et al., "A study of translation edit rate with targeted human annotation" (2006).
//!
//! ```text
//! TER = 100 · Σ edits / Σ words in the references
//! ```
//!
//! An edit inserts, deletes or replaces a word, or shifts a run of words. With several references
//! the edits are those against the closest, and the words are the mean over all.

mod edits;
mod shifts;
mod tokenizer;

use std::fmt;

use super::{VERSION, check_lines, significance::Metric};
use crate::{
    Error,
    whitespace::{strip_end, words},
};

/// How to compute TER. The default is what `sacrebleu -m ter` does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ter {
    /// Whether punctuation is set apart and XML's entities are resolved, as Tercom does.
    pub normalized: bool,
    /// Whether punctuation is left out.
    pub no_punct: bool,
    /// Whether the two options above know the characters and the punctuation of East Asia too.
    pub asian_support: bool,
    /// Whether upper and lower case differ.
    pub case_sensitive: bool,
}

/// A TER score. `Display` gives sacreBLEU's line: `TER = 48.12`.
#[derive(Debug, Clone, PartialEq)]
pub struct TerScore {
    /// Edits in per cent of reference words; lower is better, and it may be over 100.
    pub score: f64,
    /// The number of edits.
    pub edits: u64,
    /// The number of reference words, a mean over the references.
    pub reference_len: f64,
}

impl Ter {
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
    ) -> Result<TerScore, Error> {
        check_lines(hypotheses.len(), references)?;
        let (mut edits, mut reference_len) = (0, 0.0);
        for (line, hypothesis) in hypotheses.iter().enumerate() {
            let references = references.iter().map(|reference| reference[line].as_ref());
            let (line_edits, line_len) = self.line(hypothesis.as_ref(), references);
            edits += line_edits;
            reference_len += line_len;
        }
        Ok(score(edits, reference_len))
    }

    /// The score of one sentence.
    ///
    /// # Errors
    /// [`Error::NothingToScore`] without references.
    pub fn sentence<R: AsRef<str>>(
        &self,
        hypothesis: &str,
        references: &[R],
    ) -> Result<TerScore, Error> {
        if references.is_empty() {
            return Err(Error::NothingToScore);
        }
        let (edits, reference_len) = self.line(hypothesis, references.iter().map(AsRef::as_ref));
        Ok(score(edits, reference_len))
    }

    /// How the score was computed, in sacreBLEU's notation:
    /// `nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:…`. The version names this
    /// program, which computed the score; the fields before it are those of sacreBLEU 2.
    #[must_use]
    pub fn signature(&self, references: usize) -> String {
        let case = if self.case_sensitive { "mixed" } else { "lc" };
        let yes = |option: bool| if option { "yes" } else { "no" };
        let (norm, punct) = (yes(self.normalized), yes(!self.no_punct));
        let asian = yes(self.asian_support);
        format!(
            "nrefs:{references}|case:{case}|tok:tercom|norm:{norm}|punct:{punct}|asian:{asian}|version:{VERSION}"
        )
    }

    /// The fewest edits that any of the references needs, and the mean length of the references.
    fn line<'r>(&self, hypothesis: &str, references: impl Iterator<Item = &'r str>) -> (u64, f64) {
        let hypothesis = self.tokenize(strip_end(hypothesis));
        let hypothesis: Vec<&str> = words(&hypothesis).collect();
        let (mut fewest, mut total_len, mut count) = (u64::MAX, 0, 0);
        for reference in references {
            // sacreBLEU tokenises references twice, which parts `neighbour's,` once more.
            let reference = self.tokenize(strip_end(reference));
            let reference = self.tokenize(strip_end(&reference));
            let reference: Vec<&str> = words(&reference).collect();
            fewest = fewest.min(shifts::edits(&hypothesis, &reference));
            total_len += reference.len();
            count += 1;
        }
        (fewest, total_len as f64 / f64::from(count))
    }
}

impl Metric for Ter {
    fn counts(&self, hypothesis: &str, references: &[&str]) -> Vec<f64> {
        let (edits, reference_len) = self.line(hypothesis, references.iter().copied());
        vec![edits as f64, reference_len]
    }

    fn score_of(&self, sums: &[f64]) -> f64 {
        match sums {
            &[edits, reference_len] => score(edits as u64, reference_len).score,
            _ => 0.0,
        }
    }
}

/// A hypothesis where nothing is right, against references without a word, has a score of 100.
fn score(edits: u64, reference_len: f64) -> TerScore {
    let rate = if reference_len > 0.0 {
        edits as f64 / reference_len
    } else if edits > 0 {
        1.0
    } else {
        0.0
    };
    TerScore { score: 100.0 * rate, edits, reference_len }
}

impl fmt::Display for TerScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TER = {:.2}", self.score)
    }
}
