//! Reads pairs of texts: two files line by line, or two columns of one file.

use crate::error::{Error, LineProblem, Result};
use crate::lines::Lines;
use std::path::Path;

/// A text and what belongs to it, such as its translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The text.
    pub source: String,
    /// What belongs to it.
    pub target: String,
}

/// The pairs of two files or of one with columns.
///
/// A pair with a line at fault is an error ([`Error::is_of_a_line`]), and the pairs after it
/// follow. Any other error is the last item.
pub struct Pairs {
    reader: Reader,
    ended: bool,
}

enum Reader {
    /// Line n of one belongs to line n of the other.
    Files(Lines, Lines),
    /// The columns of a file, separated by tabs.
    Columns(Lines, [usize; 2]),
}

impl Pairs {
    /// Line n of `source` with line n of `target`; one of them may be `-`, standard input.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn of_files(source: &Path, target: &Path) -> Result<Self> {
        Ok(Self::new(Reader::Files(Lines::open(source)?, Lines::open(target)?)))
    }

    /// Two columns of a file, counted from 0. Further columns are ignored.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn of_columns(path: &Path, columns: [usize; 2]) -> Result<Self> {
        Ok(Self::new(Reader::Columns(Lines::open(path)?, columns)))
    }

    fn new(reader: Reader) -> Self {
        Pairs { reader, ended: false }
    }

    /// The same pairs, of which no line may have more bytes than this.
    #[must_use]
    pub fn with_longest(self, bytes: u64) -> Self {
        let reader = match self.reader {
            Reader::Files(sources, targets) => {
                Reader::Files(sources.with_longest(bytes), targets.with_longest(bytes))
            }
            Reader::Columns(lines, columns) => Reader::Columns(lines.with_longest(bytes), columns),
        };
        Pairs { reader, ..self }
    }

    /// The number of the pair that was read last, counted from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        let (Reader::Files(lines, _) | Reader::Columns(lines, _)) = &self.reader;
        lines.number()
    }

    /// The input's name in messages; of two files, the source's.
    #[must_use]
    pub fn name(&self) -> &str {
        let (Reader::Files(lines, _) | Reader::Columns(lines, _)) = &self.reader;
        lines.name()
    }

    fn read(&mut self) -> Option<Result<Pair>> {
        match &mut self.reader {
            Reader::Files(sources, targets) => match (sources.next(), targets.next()) {
                (None, None) => None,
                (Some(source), Some(target)) => Some(together(source, target)),
                // What cannot be read says more than where it ends.
                (Some(Err(error)), None) | (None, Some(Err(error))) if !error.is_of_a_line() => {
                    Some(Err(error))
                }
                (source, _) => {
                    let (shorter, longer) =
                        if source.is_none() { (sources, targets) } else { (targets, sources) };
                    Some(Err(Error::Uneven {
                        shorter: shorter.name().into(),
                        longer: longer.name().into(),
                        line: longer.number(),
                    }))
                }
            },
            Reader::Columns(lines, columns) => {
                let line = lines.next()?;
                Some(line.and_then(|line| split(lines, &line, *columns)))
            }
        }
    }
}

/// The lines as a pair; where both are at fault, the fault that ends the reading.
fn together(source: Result<String>, target: Result<String>) -> Result<Pair> {
    match (source, target) {
        (Ok(source), Ok(target)) => Ok(Pair { source, target }),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(source), Err(target)) => Err(if source.is_of_a_line() { target } else { source }),
    }
}

fn split(lines: &Lines, line: &str, columns: [usize; 2]) -> Result<Pair> {
    let column = |column: usize| {
        line.split('\t').nth(column).map(str::to_owned).ok_or_else(|| {
            let found = line.split('\t').count();
            lines.fault(LineProblem::NoColumn { column: column + 1, found })
        })
    };
    Ok(Pair { source: column(columns[0])?, target: column(columns[1])? })
}

impl Iterator for Pairs {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let pair = self.read();
        self.ended = match &pair {
            None => true,
            Some(pair) => pair.as_ref().is_err_and(|error| !error.is_of_a_line()),
        };
        pair
    }
}

#[cfg(test)]
mod tests {
    use super::{Pair, Pairs};
    use std::fs;

    fn shown(pairs: Pairs) -> Vec<String> {
        pairs
            .map(|pair| match pair {
                Ok(Pair { source, target }) => format!("{source}|{target}"),
                Err(error) => error.to_string(),
            })
            .collect()
    }

    #[test]
    fn two_files_and_two_columns_are_read_by_the_same_rules() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("en"), b"\xEF\xBB\xBFa\r\n\nb\xff\nc\n").unwrap();
        fs::write(path("fr"), "A\nB\nC\nD").unwrap();
        let pairs = shown(Pairs::of_files(&path("en"), &path("fr")).unwrap());
        assert_eq!((&*pairs[0], &*pairs[1], &*pairs[3]), ("a|A", "|B", "c|D"));
        assert!(pairs[2].contains("en, line 3: not UTF-8"), "{pairs:?}");

        fs::write(path("tsv"), "\u{feff}1\ta\tA\textra\r\n2\n3\tc\tC\n").unwrap();
        let pairs = shown(Pairs::of_columns(&path("tsv"), [1, 2]).unwrap());
        assert_eq!((&*pairs[0], &*pairs[2], pairs.len()), ("a|A", "c|C", 3));
        let fault = "tsv, line 2: no column 2 (counted from 1): there are 1, separated by tabs";
        assert!(pairs[1].ends_with(fault), "{pairs:?}");
    }

    #[test]
    fn the_shorter_of_two_files_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("long"), "a\nb\nc\n").unwrap();
        fs::write(path("short"), "A\n").unwrap();
        for (source, target) in [("long", "short"), ("short", "long")] {
            let pairs = shown(Pairs::of_files(&path(source), &path(target)).unwrap());
            assert_eq!(pairs.len(), 2, "the error is the last");
            assert!(pairs[1].contains("short ends before line 2, and "), "{pairs:?}");
        }
    }
}
