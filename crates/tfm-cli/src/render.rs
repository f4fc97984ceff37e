//! Formats results as lines of output.

use crate::options::Format;
use serde::Serialize;
use tfm::{Score, Translation};

/// Which parts of translations to show.
pub(crate) struct Render {
    pub(crate) format: Format,
    pub(crate) n_best: bool,
    pub(crate) scores: bool,
    pub(crate) alignments: bool,
}

#[derive(Serialize)]
struct TranslationRecord<'a> {
    text: &'a str,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<Vec<AlternativeRecord<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_tokens: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_tokens: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alignment: Option<&'a [Vec<f32>]>,
}

#[derive(Serialize)]
struct AlternativeRecord<'a> {
    text: &'a str,
    score: f32,
}

impl Render {
    /// The translation of line `number`, with its line end.
    ///
    /// As text it is the translation; further parts that were asked for are in columns between
    /// tabs: number (n-best), score, text, alignment. A JSON object has all of them by name.
    pub(crate) fn translation(&self, number: usize, translation: &Translation) -> String {
        match self.format {
            Format::Jsonl => self.json(translation),
            Format::Text => self.text(number, translation),
        }
    }

    fn text(&self, number: usize, translation: &Translation) -> String {
        let best = (translation.text.as_str(), translation.score);
        let others =
            translation.alternatives.iter().map(|other| (other.text.as_str(), other.score));
        let mut lines = String::new();
        for (rank, (text, score)) in std::iter::once(best).chain(others).enumerate() {
            let mut columns = Vec::new();
            if self.n_best {
                columns.push(number.to_string());
            }
            if self.scores {
                columns.push(format!("{score:.6}"));
            }
            columns.push(text.to_owned());
            if self.alignments {
                // Alignments are computed for the best translation only.
                let alignment = translation.alignment.as_ref().filter(|_| rank == 0);
                let pairs = alignment.map(|alignment| {
                    let pairs = alignment.strongest().enumerate();
                    pairs.map(|(target, source)| format!("{source}-{target}")).collect::<Vec<_>>()
                });
                columns.push(pairs.unwrap_or_default().join(" "));
            }
            let several = columns.len() > 1;
            let one_line = |column: &String| {
                column.replace(|c: char| matches!(c, '\n' | '\r') || (several && c == '\t'), " ")
            };
            lines += &columns.iter().map(one_line).collect::<Vec<_>>().join("\t");
            lines.push('\n');
        }
        lines
    }

    fn json(&self, translation: &Translation) -> String {
        let alternatives = translation.alternatives.iter();
        let alternatives = alternatives
            .map(|other| AlternativeRecord { text: &other.text, score: other.score })
            .collect();
        let alignment = self.alignments.then_some(translation.alignment.as_ref());
        json_line(&TranslationRecord {
            text: &translation.text,
            score: translation.score,
            alternatives: self.n_best.then_some(alternatives),
            source_tokens: alignment.map(|found| found.map_or(&[][..], |found| &found.source)),
            target_tokens: alignment.map(|_| &translation.tokens[..]),
            alignment: alignment.map(|found| found.map_or(&[][..], |found| &found.weights)),
        })
    }
}

#[derive(Serialize)]
struct ScoreRecord<'a> {
    log_probability: f32,
    tokens: Vec<TokenRecord<'a>>,
}

#[derive(Serialize)]
struct TokenRecord<'a> {
    token: &'a str,
    log_probability: f32,
}

/// The score of a pair of lines, with its line end.
pub(crate) fn score(format: Format, score: &Score) -> String {
    match format {
        Format::Text => format!("{:.6}\n", score.log_probability),
        Format::Jsonl => {
            let tokens = score.tokens.iter();
            let tokens = tokens
                .map(|(token, log_probability)| TokenRecord {
                    token,
                    log_probability: *log_probability,
                })
                .collect();
            json_line(&ScoreRecord { log_probability: score.log_probability, tokens })
        }
    }
}

/// A JSON object and a line end.
pub(crate) fn json_line(record: &impl Serialize) -> String {
    let mut line = serde_json::to_string(record).expect("records have string keys alone");
    line.push('\n');
    line
}
