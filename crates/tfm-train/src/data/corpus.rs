//! Reads the pairs of a corpus, as texts.

use crate::config::{Corpora, CorpusFiles, DATA_ROOT, Synthetic};
use crate::error::{Error, Result};
use std::io;
use tfm_files::{LineProblem, Pair, Pairs};

/// The longest line that is read, in bytes. A longer one is hardly a sentence.
pub(super) const LONGEST_LINE: u64 = 1 << 20;

/// The texts of a corpus, read one pair at a time.
pub struct TextPairs(Reader);

enum Reader {
    Files(Pairs),
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
    /// [`Error::Files`].
    pub fn open(&self, corpus: usize) -> Result<TextPairs> {
        let corpora = match self {
            Corpora::Files(corpora) => corpora,
            Corpora::Synthetic(task) => return Ok(TextPairs(Reader::Synthetic(task.clone(), 0))),
        };
        let pairs = match &corpora[corpus].files {
            CorpusFiles::Pair { source, target } => Pairs::of_files(source, target),
            CorpusFiles::Table { path, columns } => Pairs::of_columns(path, *columns),
        };
        Ok(TextPairs(Reader::Files(pairs.map_err(with_remedy)?.with_longest(LONGEST_LINE))))
    }
}

/// Adds to the error of a missing file where it was looked for.
fn with_remedy(error: tfm_files::Error) -> Error {
    match error {
        tfm_files::Error::Open { name, source } if source.kind() == io::ErrorKind::NotFound => {
            let remedy = "corpora are looked for under data.root, or where";
            let problem = format!("{source}; {remedy} {DATA_ROOT} points");
            let source = io::Error::new(io::ErrorKind::NotFound, problem);
            tfm_files::Error::Open { name, source }.into()
        }
        other => other.into(),
    }
}

impl TextPairs {
    /// The number of the line that was read last, counted from 1.
    pub fn line(&self) -> u64 {
        match &self.0 {
            Reader::Files(pairs) => pairs.number(),
            Reader::Synthetic(_, index) => *index as u64,
            Reader::Ended => 0,
        }
    }

    /// The next pair; `Some(None)` for a pair with a line of more than a mebibyte.
    fn next_pair(&mut self) -> Result<Option<Option<TextPair>>> {
        use tfm_files::Error::Line;
        match &mut self.0 {
            Reader::Files(pairs) => match pairs.next() {
                None => Ok(None),
                Some(Ok(pair)) => Ok(Some(Some(pair.into()))),
                Some(Err(Line { problem: LineProblem::TooLong { .. }, .. })) => Ok(Some(None)),
                Some(Err(error)) => Err(error.into()),
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

impl From<Pair> for TextPair {
    fn from(pair: Pair) -> Self {
        TextPair { source: pair.source.trim().to_owned(), target: pair.target.trim().to_owned() }
    }
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
