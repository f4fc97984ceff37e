//! Reads the pairs of a corpus, as texts.

use super::lines::{Line, Lines};
use crate::config::{Corpora, CorpusFiles, Synthetic};
use crate::error::{Error, Result};

/// The texts of a corpus, read one pair at a time.
pub struct TextPairs(Reader);

enum Reader {
    Pair(Lines, Lines),
    Table(Lines, [usize; 2]),
    Synthetic(Synthetic, usize),
    Ended,
}

/// A text and its translation, without white space around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPair {
    /// The text to translate.
    pub source: String,
    /// Its translation.
    pub target: String,
}

impl Corpora {
    /// How many corpora there are.
    pub fn count(&self) -> usize {
        match self {
            Corpora::Files(corpora) => corpora.len(),
            Corpora::Synthetic(_) => 1,
        }
    }

    /// The name of a corpus, counted from 0, for messages.
    pub fn name(&self, corpus: usize) -> String {
        match self {
            Corpora::Files(corpora) => match &corpora[corpus].files {
                CorpusFiles::Pair { source, target } => {
                    format!("{} with {}", source.display(), target.display())
                }
                CorpusFiles::Table { path, .. } => path.display().to_string(),
            },
            Corpora::Synthetic(_) => "the made-up task".into(),
        }
    }

    /// How often an epoch has each pair of a corpus.
    pub(super) fn weight(&self, corpus: usize) -> f64 {
        match self {
            Corpora::Files(corpora) => corpora[corpus].weight,
            Corpora::Synthetic(_) => 1.0,
        }
    }

    /// Opens a corpus, counted from 0.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open(&self, corpus: usize) -> Result<TextPairs> {
        Ok(TextPairs(match self {
            Corpora::Files(corpora) => match &corpora[corpus].files {
                CorpusFiles::Pair { source, target } => {
                    Reader::Pair(Lines::open(source)?, Lines::open(target)?)
                }
                CorpusFiles::Table { path, columns } => Reader::Table(Lines::open(path)?, *columns),
            },
            Corpora::Synthetic(task) => Reader::Synthetic(task.clone(), 0),
        }))
    }
}

impl TextPairs {
    /// The number of the line that was read last, counted from 1.
    pub fn line(&self) -> u64 {
        match &self.0 {
            Reader::Pair(lines, _) | Reader::Table(lines, _) => lines.number(),
            Reader::Synthetic(_, index) => *index as u64,
            Reader::Ended => 0,
        }
    }

    /// The next pair; `Some(None)` for a pair with a line of more than a mebibyte.
    fn next_pair(&mut self) -> Result<Option<Option<TextPair>>> {
        match &mut self.0 {
            Reader::Pair(sources, targets) => match (sources.next()?, targets.next()?) {
                (Some(source), Some(target)) => Ok(Some(text_pair(source, target))),
                (None, None) => Ok(None),
                (source, _) => {
                    let longer = if source.is_some() { &mut *sources } else { &mut *targets };
                    while longer.next()?.is_some() {}
                    Err(Error::LineCounts {
                        source_path: sources.path().into(),
                        source_lines: sources.number(),
                        target_path: targets.path().into(),
                        target_lines: targets.number(),
                    })
                }
            },
            Reader::Table(lines, columns) => match lines.next()? {
                Some(Line::Text(row)) => {
                    let column = |column: usize| {
                        row.split('\t').nth(column).ok_or_else(|| {
                            let found = row.split('\t').count();
                            lines.fault(format!(
                                "has no column {column}: there are {found}, counted from 0, between tabulators"
                            ))
                        })
                    };
                    let (source, target) = (column(columns[0])?, column(columns[1])?);
                    Ok(Some(text_pair(Line::Text(source.into()), Line::Text(target.into()))))
                }
                Some(Line::TooLong) => Ok(Some(None)),
                None => Ok(None),
            },
            Reader::Synthetic(task, index) => Ok((*index < task.pairs).then(|| {
                let (source, target) = task.pair(*index);
                *index += 1;
                Some(TextPair { source, target })
            })),
            Reader::Ended => Ok(None),
        }
    }
}

fn text_pair(source: Line, target: Line) -> Option<TextPair> {
    let trimmed = |line| match line {
        Line::Text(text) => Some(text.trim().to_owned()),
        Line::TooLong => None,
    };
    Some(TextPair { source: trimmed(source)?, target: trimmed(target)? })
}

/// `None` is a pair with a line of more than a mebibyte, which was skipped. After an error there
/// are no more pairs.
impl Iterator for TextPairs {
    type Item = Result<Option<TextPair>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_pair().transpose();
        if let Some(Err(_)) = next {
            self.0 = Reader::Ended;
        }
        next
    }
}
