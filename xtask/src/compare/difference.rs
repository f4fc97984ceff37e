//! Compares two outputs of one case.

use std::fmt;

/// Characters of a line that are shown on either side of the difference.
const SHOWN: usize = 60;

/// The result of a case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every byte is the same; this is the number of lines.
    Equal(usize),
    /// The place of the first difference, and both lines.
    Differs(String),
    /// The old command says that it cannot do this.
    Skipped(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Equal(lines) => write!(f, "equal ({lines} lines)"),
            Verdict::Differs(difference) => write!(f, "differs: {difference}"),
            Verdict::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

/// Compares what the old and the new command gave, each an output or an error.
pub(super) fn verdict(old: Result<String, String>, new: Result<String, String>) -> Verdict {
    match (old, new) {
        (Err(reason), Err(_)) => Verdict::Skipped(format!("both fail; the old one says: {reason}")),
        (Err(reason), Ok(_)) => Verdict::Skipped(format!("the old one fails: {reason}")),
        (Ok(_), Err(reason)) => Verdict::Differs(format!("the new one fails: {reason}")),
        (Ok(old), Ok(new)) if old.is_empty() && new.is_empty() => {
            Verdict::Differs("neither gave a line".into())
        }
        (Ok(old), Ok(new)) => match difference(&old, &new) {
            Some(difference) => Verdict::Differs(difference),
            None => Verdict::Equal(old.lines().count()),
        },
    }
}

/// Describes the first line that differs; `None` if all bytes are the same.
fn difference(old: &str, new: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let (mut olds, mut news) = (old.split('\n'), new.split('\n'));
    for number in 1.. {
        match (olds.next(), news.next()) {
            (Some(old), Some(new)) if old == new => {}
            (None, None) => break,
            (old, new) => {
                let (old, new) = (old.unwrap_or("no line"), new.unwrap_or("no line"));
                let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
                let [old, new] = [old, new].map(|line| around(line, same));
                return Some(format!("line {number}\n  old: {old}\n  new: {new}"));
            }
        }
    }
    None
}

/// The text on both sides of a character, which is counted from 0.
fn around(line: &str, character: usize) -> String {
    let first = character.saturating_sub(SHOWN);
    let shown: String = line.chars().skip(first).take(2 * SHOWN).collect();
    let before = if first > 0 { "…" } else { "" };
    let after = if line.chars().count() > first + 2 * SHOWN { "…" } else { "" };
    format!("{before}{shown}{after}")
}

#[cfg(test)]
mod tests {
    use super::{Verdict, verdict};

    fn of(old: &str, new: &str) -> String {
        verdict(Ok(old.into()), Ok(new.into())).to_string()
    }

    #[test]
    fn the_first_line_that_differs_is_shown_from_both() {
        assert_eq!(of("a\nb\n", "a\nb\n"), "equal (2 lines)");
        assert_eq!(of("a\nb\nc\n", "a\nB\nC\n"), "differs: line 2\n  old: b\n  new: B");
        // A single bit of a score is a difference, and so is the end of a line.
        let [old, new] = ["{\"score\":-0.50000006}\n", "{\"score\":-0.5}\n"];
        assert!(of(old, new).starts_with("differs: line 1\n"));
        assert_eq!(of("a\n", "a"), "differs: line 2\n  old: \n  new: no line");
        assert_eq!(of("a", "a\nb"), "differs: line 2\n  old: no line\n  new: b");
    }

    #[test]
    fn of_a_long_line_the_part_that_differs_is_shown() {
        let [old, new] = ["é1", "é2"].map(|end| "x".repeat(1000) + end + &"y".repeat(1000));
        let shown = of(&old, &new);
        assert!(shown.contains("xé1yy") && shown.contains("xé2yy"), "{shown}");
        assert!(shown.chars().count() < 400, "{shown}");
    }

    #[test]
    fn a_failure_is_no_equality() {
        let fails = || Err("no such option".to_owned());
        assert!(matches!(verdict(Ok("a\n".into()), fails()), Verdict::Differs(_)));
        assert!(matches!(verdict(fails(), Ok("a\n".into())), Verdict::Skipped(_)));
        assert!(matches!(verdict(fails(), fails()), Verdict::Skipped(_)));
        assert!(matches!(verdict(Ok(String::new()), Ok(String::new())), Verdict::Differs(_)));
    }
}
