//! Formats results as lines of output.

use crate::heatmap::heatmap;
use crate::options::Format;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tfm::{Alignment, Finished, Score, Translation, WordAlignment};

/// Which parts of translations to show.
pub(crate) struct Render {
    pub(crate) format: Format,
    pub(crate) n_best: bool,
    pub(crate) scores: bool,
    pub(crate) alignments: Option<Alignments>,
    /// Alignments are of tokens instead of words.
    pub(crate) subwords: bool,
}

/// How text shows alignments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Alignments {
    /// Numbers of words, `source-target`, counted from 0
    Pharaoh,
    /// The words themselves
    Words,
    /// A picture of all weights
    Heatmap,
}

#[derive(Serialize)]
struct TranslationRecord<'a> {
    id: Box<RawValue>,
    #[serde(flatten)]
    best: HypothesisRecord<'a>,
    /// Tokens of the source that are left out.
    truncated: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<Vec<HypothesisRecord<'a>>>,
}

#[derive(Serialize)]
struct HypothesisRecord<'a> {
    text: &'a str,
    score: f32,
    tokens: &'a [String],
    finished: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alignment: Option<AlignmentRecord>,
}

/// Words or tokens, the weights of each target's over the sources', and the pairs
/// `[source, target]` of the greatest weight.
#[derive(Serialize)]
struct AlignmentRecord {
    source: Vec<String>,
    target: Vec<String>,
    weights: Vec<Vec<f32>>,
    pairs: Vec<(usize, usize)>,
}

/// A translation or an alternative.
struct Hypothesis<'a> {
    text: &'a str,
    score: f32,
    tokens: &'a [String],
    finished: Finished,
    alignment: Option<&'a Alignment>,
}

/// The best translation and the others, in their order.
fn hypotheses(translation: &Translation) -> impl Iterator<Item = Hypothesis<'_>> {
    let Translation { text, score, tokens, finished, alignment, .. } = translation;
    let alignment = alignment.as_ref();
    let best = Hypothesis { text, score: *score, tokens, finished: *finished, alignment };
    let others = translation.alternatives.iter().map(|other| Hypothesis {
        text: &other.text,
        score: other.score,
        tokens: &other.tokens,
        finished: other.finished,
        alignment: other.alignment.as_ref(),
    });
    std::iter::once(best).chain(others)
}

impl Render {
    /// The translation of line `number`, with its line end. A line that has no id is called by its
    /// number.
    ///
    /// As text it is the translation; further parts that were asked for are in columns between
    /// tabs: number (n-best), score, text, alignment. A JSON object has all of them by name.
    pub(crate) fn translation(
        &self,
        number: usize,
        id: Option<&RawValue>,
        translation: &Translation,
    ) -> String {
        match self.format {
            Format::Jsonl => self.json(number, id, translation),
            Format::Text => {
                hypotheses(translation).map(|found| self.columns(number, &found)).collect()
            }
        }
    }

    /// What stands for line `number`, which was skipped, with its line end.
    pub(crate) fn fault(&self, number: usize, id: Option<&RawValue>, fault: &str) -> String {
        match self.format {
            Format::Jsonl => fault_line(id, number, fault),
            Format::Text => {
                let mut columns = vec![String::new()];
                columns.extend(self.scores.then(String::new));
                let aligned =
                    matches!(self.alignments, Some(Alignments::Pharaoh | Alignments::Words));
                columns.extend(aligned.then(String::new));
                if self.n_best {
                    columns.insert(0, number.to_string());
                }
                columns.join("\t") + "\n"
            }
        }
    }

    /// A translation in columns, and a picture behind it.
    fn columns(&self, number: usize, found: &Hypothesis<'_>) -> String {
        let mut columns = Vec::new();
        if self.n_best {
            columns.push(number.to_string());
        }
        if self.scores {
            columns.push(format!("{:.6}", found.score));
        }
        columns.push(found.text.to_owned());
        let alignment =
            self.alignments.and(found.alignment).map(|alignment| self.aligned(alignment, found));
        let mut picture = String::new();
        match (self.alignments, alignment) {
            (None, _) => {}
            (Some(_), None) => columns.push(String::new()),
            (Some(Alignments::Pharaoh), Some(alignment)) => {
                columns.push(joined(&alignment, |source, target| format!("{source}-{target}")));
            }
            (Some(Alignments::Words), Some(alignment)) => {
                let AlignmentRecord { source, target, .. } = &alignment;
                columns.push(joined(&alignment, |s, t| format!("{}→{}", source[s], target[t])));
            }
            (Some(Alignments::Heatmap), Some(alignment)) => {
                picture = heatmap(&alignment.source, &alignment.target, &alignment.weights);
            }
        }
        let several = columns.len() > 1;
        let one_line = |column: &String| {
            column.replace(|c: char| matches!(c, '\n' | '\r') || (several && c == '\t'), " ")
        };
        let mut line = columns.iter().map(one_line).collect::<Vec<_>>().join("\t");
        line.push('\n');
        line + &picture
    }

    /// An alignment of words or of tokens.
    fn aligned(&self, alignment: &Alignment, found: &Hypothesis<'_>) -> AlignmentRecord {
        if self.subwords {
            let pairs = alignment.strongest().zip(0..).collect();
            let (source, target) = (alignment.source.clone(), found.tokens.to_vec());
            return AlignmentRecord { source, target, weights: alignment.weights.clone(), pairs };
        }
        let words = alignment.words();
        let pairs = words.pairs().collect();
        let WordAlignment { source, target, weights, .. } = words;
        AlignmentRecord { source, target, weights, pairs }
    }

    fn json(&self, number: usize, id: Option<&RawValue>, translation: &Translation) -> String {
        let mut records = hypotheses(translation).map(|found| {
            let nothing = || {
                let (source, target) = (Vec::new(), Vec::new());
                AlignmentRecord { source, target, weights: Vec::new(), pairs: Vec::new() }
            };
            let aligned = found.alignment.map_or_else(nothing, |them| self.aligned(them, &found));
            HypothesisRecord {
                text: found.text,
                score: found.score,
                tokens: found.tokens,
                finished: found.finished.as_str(),
                alignment: self.alignments.map(|_| aligned),
            }
        });
        let best = records.next().expect("the best comes first");
        json_line(&TranslationRecord {
            id: called(id, number),
            best,
            truncated: translation.truncated,
            alternatives: self.n_best.then(|| records.collect()),
        })
    }
}

/// All pairs of an alignment, between spaces.
fn joined(alignment: &AlignmentRecord, show: impl Fn(usize, usize) -> String) -> String {
    let pairs = alignment.pairs.iter().map(|&(source, target)| show(source, target));
    pairs.collect::<Vec<_>>().join(" ")
}

#[derive(Serialize)]
struct FaultRecord<'a> {
    id: Box<RawValue>,
    error: &'a str,
}

#[derive(Serialize)]
struct ScoreRecord<'a> {
    id: u64,
    log_probability: f32,
    tokens: Vec<TokenRecord<'a>>,
}

#[derive(Serialize)]
struct TokenRecord<'a> {
    token: &'a str,
    log_probability: f32,
}

/// The score of pair `number`, with its line end; or what stands for one that was skipped.
pub(crate) fn score(format: Format, number: u64, score: Result<&Score, &str>) -> String {
    match (format, score) {
        (Format::Text, Ok(score)) => format!("{:.6}\n", score.log_probability),
        (Format::Text, Err(_)) => "\n".into(),
        (Format::Jsonl, Ok(score)) => {
            let tokens = score.tokens.iter();
            let tokens = tokens
                .map(|(token, log_probability)| TokenRecord {
                    token,
                    log_probability: *log_probability,
                })
                .collect();
            let log_probability = score.log_probability;
            json_line(&ScoreRecord { id: number, log_probability, tokens })
        }
        (Format::Jsonl, Err(error)) => fault_line(None, number as usize, error),
    }
}

/// What a result is called: as the input calls it, or by its number.
pub(crate) fn called(id: Option<&RawValue>, number: usize) -> Box<RawValue> {
    let number = || to_raw_value(&number).expect("a number is JSON");
    id.map_or_else(number, ToOwned::to_owned)
}

/// The JSON object that stands for line `number`, which was skipped, and a line end.
pub(crate) fn fault_line(id: Option<&RawValue>, number: usize, error: &str) -> String {
    json_line(&FaultRecord { id: called(id, number), error })
}

/// A JSON object and a line end.
pub(crate) fn json_line(record: &impl Serialize) -> String {
    let mut line = serde_json::to_string(record).expect("records have string keys alone");
    line.push('\n');
    line
}
