//! Processors and truncations against those of Hugging Face `transformers`:
//! `tests/golden/processors.py` makes the file and says what is in it.

use super::GenerationOptions;
use super::pick::Choice;
use super::pick::truncation::truncate;
use super::processors::{Edits, Past, RowRules, processors};
use super::static_bans;
use crate::config::SpecialTokens;
use crate::json::Fields;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    eos: Vec<u32>,
    source: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    settings: Value,
    past: Vec<u32>,
    logits: Vec<f32>,
    processed: Vec<Option<f32>>,
    processed_log_probabilities: Option<Vec<Option<f32>>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/processors.json")).unwrap()
}

impl Case {
    fn options(&self, eos: &[u32]) -> GenerationOptions {
        let special = SpecialTokens { bos: None, eos: eos.to_vec(), pad: None, decoder_start: 1 };
        let mut settings = self.settings.clone();
        // Where nothing is said, `transformers` draws from 50.
        settings.as_object_mut().unwrap().entry("top_k").or_insert(Value::from(0));
        let mut fields = Fields::parse("settings", settings.to_string().as_bytes());
        let options = GenerationOptions::read(&mut fields, &special, self.logits.len());
        assert!(fields.faults.is_empty(), "{:?}", fields.faults);
        options
    }

    /// The row after the edits; where it has probabilities, of those.
    fn edited(&self, golden: &Golden, row: &[f32]) -> Vec<f32> {
        let options = self.options(&golden.eos);
        let mut past = Past::new(self.past[0]);
        self.past[1..].iter().for_each(|&token| past.push(token));
        let mut edits = Edits::default();
        let all = processors(&options, &golden.source);
        all.iter().for_each(|processor| processor.edit(&past, &mut edits));
        edits.sort();
        let rules = RowRules {
            options: &options,
            banned: &static_bans(&options),
            eos_banned: self.past.len() - 1 < options.shortest(),
            edits: Some(&edits),
            log_sum_exp: 0.0,
        };
        let edited: Vec<f32> =
            (0..).zip(row).map(|(token, &value)| rules.edit(token, value)).collect();
        // Only a row of which a token may rise is shown whole.
        let rises = edited.iter().zip(row).any(|(after, before)| after > before);
        assert!(!rises || edits.raises(), "{}", self.settings);
        edited
    }
}

fn is_close(found: f32, expected: Option<f32>) -> bool {
    match expected {
        None => found == f32::NEG_INFINITY,
        Some(expected) => (found - expected).abs() <= 1e-4,
    }
}

#[test]
fn edits_are_those_of_transformers() {
    let golden = golden();
    let mut compared = 0;
    for case in &golden.cases {
        let Some(expected) = &case.processed_log_probabilities else { continue };
        compared += 1;
        let sum: f64 = case.logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let log_probabilities: Vec<f32> =
            case.logits.iter().map(|&logit| (f64::from(logit) - sum.ln()) as f32).collect();
        for (row, expected) in [(&case.logits, &case.processed), (&log_probabilities, expected)] {
            for (found, &expected) in case.edited(&golden, row).into_iter().zip(expected) {
                let place = format!("{} after {:?}", case.settings, case.past);
                assert!(is_close(found, expected), "{found}, not {expected:?}: {place}");
            }
        }
    }
    assert!(compared >= 100, "only {compared} cases");
}

#[test]
fn truncations_are_those_of_transformers() {
    let golden = golden();
    let mut compared = 0;
    for case in &golden.cases {
        if case.processed_log_probabilities.is_some() {
            continue;
        }
        compared += 1;
        let edited = case.edited(&golden, &case.logits);
        let choices = (0..).zip(edited);
        let choices = choices.map(|(token, log_probability)| Choice { token, log_probability });
        let left = truncate(&case.options(&golden.eos), choices.collect());
        let expected: Vec<(u32, f32)> =
            (0..).zip(&case.processed).filter_map(|(id, &value)| Some((id, value?))).collect();
        let tokens: Vec<u32> = left.iter().map(|choice| choice.token).collect();
        let place = format!("{} after {:?}", case.settings, case.past);
        assert_eq!(tokens, expected.iter().map(|&(id, _)| id).collect::<Vec<_>>(), "{place}");
        let (first, first_value) = (left[0].weight.ln() as f32, expected[0].1);
        for (choice, (_, value)) in left.iter().zip(expected) {
            let found = choice.weight.ln() as f32 - first;
            let value = value - first_value;
            assert!(is_close(found, Some(value)), "{found}, not {value}: {place}");
        }
    }
    assert!(compared >= 70, "only {compared} cases");
}
