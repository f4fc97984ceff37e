//! Search against Hugging Face `transformers`: the model is a table, so nothing but the search can
//! differ. `golden/search.py` makes the file and says what is in it.

use serde::Deserialize;
use std::sync::Arc;
use tfm_model::generation::{
    Advance, EarlyStopping, GenerationOptions, Hypothesis, Rows, Search, SearchInput, static_bans,
};

#[derive(Deserialize)]
struct Fixture {
    tables: Vec<Table>,
}

#[derive(Deserialize)]
struct Table {
    vocabulary: usize,
    log_probabilities: Vec<f32>,
    log_sum_exps: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    options: Options,
    sources: Vec<u64>,
    /// Of each source, the hypotheses.
    results: Vec<Vec<Expected>>,
}

/// Options by their names in `transformers`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Options {
    num_beams: usize,
    max_length: usize,
    num_return_sequences: Option<usize>,
    length_penalty: Option<f64>,
    early_stopping: Option<Stopping>,
    #[serde(default)]
    min_length: usize,
    forced_bos_token_id: Option<u32>,
    forced_eos_token_id: Option<Ids>,
    #[serde(default)]
    bad_words_ids: Vec<Vec<u32>>,
    #[serde(default)]
    no_repeat_ngram_size: usize,
    repetition_penalty: Option<f64>,
    eos_token_id: Option<Vec<u32>>,
    #[serde(default)]
    prefix: Vec<u32>,
    #[serde(default)]
    renormalize_logits: bool,
}

#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum Stopping {
    Bool(bool),
    Never(String),
}

#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

/// Beam search has scores and beam indices (of the tokens after the prefix), greedy search has not.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum Expected {
    Beam(Vec<u32>, f32, Vec<u32>),
    Greedy([Vec<u32>; 1]),
}

const START: u32 = 1;
const EOS: u32 = 2;

impl Options {
    fn generation_options(&self) -> GenerationOptions {
        let eos = self.eos_token_id.clone().unwrap_or_else(|| vec![EOS]);
        GenerationOptions {
            num_beams: self.num_beams,
            num_return_sequences: self.num_return_sequences.unwrap_or(1),
            length_penalty: self.length_penalty.unwrap_or(1.0),
            early_stopping: match &self.early_stopping {
                None | Some(Stopping::Bool(false)) => EarlyStopping::No,
                Some(Stopping::Bool(true)) => EarlyStopping::Yes,
                Some(Stopping::Never(never)) => {
                    assert_eq!(never, "never");
                    EarlyStopping::Never
                }
            },
            max_length: Some(self.max_length),
            min_length: self.min_length,
            prefix: self.prefix.clone(),
            forced_bos_token_id: self.forced_bos_token_id,
            forced_eos_token_id: match &self.forced_eos_token_id {
                None => Vec::new(),
                Some(Ids::One(token)) => vec![*token],
                Some(Ids::Several(tokens)) => tokens.clone(),
            },
            bad_words_ids: self.bad_words_ids.clone(),
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            renormalize_logits: self.renormalize_logits,
            ..GenerationOptions::new(START, eos)
        }
    }
}

impl Table {
    /// The row that follows `tokens`, as in `TableModel.forward`.
    fn row(&self, tokens: &[u32], source: u64) -> usize {
        let back = |n: usize| tokens.len().checked_sub(n).map_or(0, |i| u64::from(tokens[i]));
        let number = 7 * back(1) + 3 * back(2) + 5 * tokens.len() as u64 + 11 * source;
        (number % self.log_sum_exps.len() as u64) as usize
    }

    /// The best `width` candidates of a row, best first, as a model would offer them to a search.
    fn top(&self, row: usize, options: &GenerationOptions, width: usize) -> Vec<(f32, i32)> {
        let bans = static_bans(options);
        let banned = |id: usize| bans.contains(&(id as u32));
        let row = &self.log_probabilities[row * self.vocabulary..][..self.vocabulary];
        let left = row.iter().enumerate().filter(|&(id, _)| !banned(id));
        let normalizer = match options.renormalize_logits && !bans.is_empty() {
            true => left.map(|(_, &value)| f64::from(value).exp()).sum::<f64>().ln() as f32,
            false => 0.0,
        };
        let biased = |(id, &value)| {
            (if banned(id) { f32::NEG_INFINITY } else { value - normalizer }, id as i32)
        };
        let mut all: Vec<_> = row.iter().enumerate().map(biased).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.truncate(width);
        all
    }

    /// Runs a search that sees `extra` candidates more than it needs.
    fn search(
        &self,
        options: &Arc<GenerationOptions>,
        source: u64,
        extra: usize,
    ) -> Vec<Hypothesis> {
        let mut search =
            Search::new(options, SearchInput { source: &[], number: 0, positions: usize::MAX });
        let mut live = vec![vec![START]];
        loop {
            let width = (search.needs().candidates + extra).min(self.vocabulary);
            let rows: Vec<_> = live.iter().map(|tokens| self.row(tokens, source)).collect();
            let (values, ids): (Vec<f32>, Vec<i32>) =
                rows.iter().flat_map(|&row| self.top(row, options, width)).unzip();
            let sums: Vec<f32> = rows.iter().map(|&row| self.log_sum_exps[row]).collect();
            let rows = Rows { values: &values, ids: &ids, width, normalizers: &sums, deeper: &[] };
            match search.advance(rows).expect("finite rows") {
                Advance::Finished => return search.finish(),
                Advance::Continue => {}
            }
            let continued = search.parents().iter().zip(search.last_tokens());
            live =
                continued.map(|(&parent, token)| [&live[parent][..], &[token]].concat()).collect();
        }
    }
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("golden/search.json")).expect("the fixture is valid")
}

#[test]
fn equal_to_transformers() {
    let mut cases = 0;
    for table in &fixture().tables {
        for case in &table.cases {
            let options = case.options.generation_options();
            options.validate(table.vocabulary, usize::MAX).expect("valid options");
            let options = Arc::new(options);
            for (&source, expected) in case.sources.iter().zip(&case.results) {
                cases += 1;
                let place = format!("source {source} of {:?}", case.options);
                let hypotheses = table.search(&options, source, 0);
                assert_eq!(
                    hypotheses.len(),
                    expected.len(),
                    "{place}: {hypotheses:?}, not {expected:?}"
                );
                for (got, expected) in hypotheses.iter().zip(expected) {
                    match expected {
                        Expected::Greedy([tokens]) => assert_eq!(got.tokens, *tokens, "{place}"),
                        Expected::Beam(tokens, score, beams) => {
                            assert_eq!(got.tokens, *tokens, "{place}");
                            assert_eq!(got.beam_indices[options.prefix.len()..], *beams, "{place}");
                            // Normalising again is done in one go here, in two there.
                            let slack =
                                if options.renormalize_logits { 2e-6 * score.abs() } else { 0.0 };
                            let difference = (got.score - score).abs();
                            assert!(difference <= slack, "{}, not {score}: {place}", got.score);
                        }
                    }
                }
            }
        }
    }
    assert!(cases >= 600, "only {cases} cases");
}

#[test]
fn more_candidates_change_nothing() {
    for table in &fixture().tables {
        for case in &table.cases {
            let options = Arc::new(case.options.generation_options());
            for &source in &case.sources {
                let least = table.search(&options, source, 0);
                for extra in [1, 3, table.vocabulary] {
                    assert_eq!(table.search(&options, source, extra), least, "{:?}", case.options);
                }
            }
        }
    }
}
