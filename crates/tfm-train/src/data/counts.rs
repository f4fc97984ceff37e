//! Counts the pairs that were read, and those that were left out.

use std::fmt;

/// How many pairs were read, and for what reasons some were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pairs that were read.
    pub read: usize,
    /// Pairs that are used.
    pub kept: usize,
    /// Left out: a line of more than a mebibyte.
    pub long_lines: usize,
    /// Left out: an empty side.
    pub empty: usize,
    /// Left out: the same as an earlier pair.
    pub duplicates: usize,
    /// Left out: too few tokens.
    pub too_short: usize,
    /// Left out: too many tokens.
    pub too_long: usize,
    /// Left out: one side is too many times as long as the other.
    pub ratio: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pairs read", self.read)?;
        let reasons = [
            (self.long_lines, "with a line above a mebibyte"),
            (self.empty, "with an empty side"),
            (self.duplicates, "there before"),
            (self.too_short, "too short"),
            (self.too_long, "too long"),
            (self.ratio, "of too unequal lengths"),
        ];
        for (count, reason) in reasons.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {reason}")?;
        }
        write!(f, ", {} used", self.kept)
    }
}
