//! How a model's makers generate with it: `generation_config.json`.

use super::settings::refuse;
use crate::config::SpecialTokens;
use crate::generation::{EarlyStopping, GenerationOptions};
use crate::json::{Fields, one_or_list};
use serde_json::{Map, Value, json};

impl GenerationOptions {
    /// Reads the settings from `generation_config.json`, or from the `config.json` of older models.
    pub(crate) fn read(fields: &mut Fields, special: &SpecialTokens, vocabulary: usize) -> Self {
        let default = GenerationOptions::new(special.decoder_start, special.eos.clone());
        let settings = GenerationOptions {
            num_beams: fields.count("num_beams").unwrap_or(default.num_beams),
            max_length: fields.count("max_length"),
            max_new_tokens: fields.count("max_new_tokens"),
            min_length: fields.count("min_length").unwrap_or(default.min_length),
            min_new_tokens: fields.count("min_new_tokens"),
            length_penalty: fields.number("length_penalty").unwrap_or(default.length_penalty),
            early_stopping: early_stopping(fields),
            bad_words_ids: fields.token_lists("bad_words_ids").unwrap_or_default(),
            forced_bos_token_id: fields.token("forced_bos_token_id"),
            forced_eos_token_id: fields.tokens("forced_eos_token_id").unwrap_or_default(),
            no_repeat_ngram_size: fields
                .count("no_repeat_ngram_size")
                .unwrap_or(default.no_repeat_ngram_size),
            encoder_no_repeat_ngram_size: fields.count("encoder_no_repeat_ngram_size").unwrap_or(0),
            repetition_penalty: fields.number("repetition_penalty").unwrap_or(1.0),
            encoder_repetition_penalty: fields.number("encoder_repetition_penalty").unwrap_or(1.0),
            sequence_bias: sequence_bias(fields),
            suppress_tokens: fields.tokens("suppress_tokens").unwrap_or_default(),
            begin_suppress_tokens: fields.tokens("begin_suppress_tokens").unwrap_or_default(),
            exponential_decay_length_penalty: decay(fields),
            renormalize_logits: fields.flag("renormalize_logits").unwrap_or(false),
            do_sample: fields.flag("do_sample").unwrap_or(false),
            temperature: fields.number("temperature").unwrap_or(default.temperature),
            top_k: fields.count("top_k").unwrap_or(default.top_k),
            top_p: fields.number("top_p").unwrap_or(default.top_p),
            min_p: fields.number("min_p"),
            typical_p: fields.number("typical_p").unwrap_or(default.typical_p),
            top_h: fields.number("top_h"),
            epsilon_cutoff: fields.number("epsilon_cutoff").unwrap_or(0.0),
            eta_cutoff: fields.number("eta_cutoff").unwrap_or(0.0),
            ..default
        };
        settings.check(fields, vocabulary);
        refuse(fields);
        settings
    }

    fn check(&self, fields: &mut Fields, vocabulary: usize) {
        const MOST_BEAMS: usize = 1 << 10;
        if !(1..=MOST_BEAMS).contains(&self.num_beams) {
            let problem = format!("is {}, but must lie between 1 and {MOST_BEAMS}", self.num_beams);
            fields.fault("num_beams", problem);
        }
        // The decoder's start token counts too.
        let least = if self.max_new_tokens.is_some() { 0 } else { 2 };
        if let Some(length) = self.max_length.filter(|&length| length < least) {
            let problem =
                format!("is {length}, which leaves no room for an output: give 2 or more");
            fields.fault("max_length", problem);
        }
        if self.max_new_tokens == Some(0) {
            fields.fault("max_new_tokens", "is 0, which leaves no room for an output");
        }
        if let Some((role, token)) = self.forced_and_suppressed() {
            let problem = format!("forces {token}, which is in `suppress_tokens`: take one out");
            fields.fault(role, problem);
        }
        for (field, range, value, allowed) in self.numbers() {
            if !allowed {
                fields.fault(field, format!("is {value}, but must be {range}"));
            }
        }
        if self.bad_words_ids.iter().any(Vec::is_empty) {
            fields.fault("bad_words_ids", "has an empty sequence, which bans nothing");
        }
        if self.sequence_bias.iter().any(|(tokens, _)| tokens.is_empty()) {
            fields.fault("sequence_bias", "has an empty sequence, which biases nothing");
        }
        let lists = [
            ("bad_words_ids", self.bad_words_ids.concat()),
            ("forced_bos_token_id", self.forced_bos_token_id.into_iter().collect()),
            ("forced_eos_token_id", self.forced_eos_token_id.clone()),
            ("suppress_tokens", self.suppress_tokens.clone()),
            ("begin_suppress_tokens", self.begin_suppress_tokens.clone()),
            ("sequence_bias", self.sequence_bias.iter().flat_map(|(all, _)| all.clone()).collect()),
        ];
        for (field, tokens) in lists {
            let unknown = |token: &&u32| vocabulary > 0 && **token as usize >= vocabulary;
            if let Some(token) = tokens.iter().find(unknown) {
                let problem =
                    format!("has {token}, but the vocabulary has {vocabulary} tokens, from 0 on");
                fields.fault(field, problem);
            }
        }
    }

    /// The settings that differ from the defaults.
    pub(super) fn write(&self, object: &mut Map<String, Value>) {
        let default = GenerationOptions::new(0, Vec::new());
        let early_stopping = match self.early_stopping {
            EarlyStopping::No => json!(false),
            EarlyStopping::Yes => json!(true),
            EarlyStopping::Never => json!("never"),
        };
        let mut put = |field: &str, differs: bool, value: Value| {
            if differs {
                object.insert(field.into(), value);
            }
        };
        macro_rules! put_if_set {
            ($($field:ident),*) => {
                $(put(stringify!($field), self.$field != default.$field, json!(self.$field));)*
            };
        }
        put_if_set!(num_beams, max_length, max_new_tokens, min_length, min_new_tokens);
        put_if_set!(length_penalty, bad_words_ids, forced_bos_token_id, no_repeat_ngram_size);
        put_if_set!(encoder_no_repeat_ngram_size, repetition_penalty, encoder_repetition_penalty);
        put_if_set!(sequence_bias, suppress_tokens, begin_suppress_tokens, renormalize_logits);
        put_if_set!(exponential_decay_length_penalty, do_sample, temperature, top_k, top_p, min_p);
        put_if_set!(typical_p, top_h, epsilon_cutoff, eta_cutoff);
        put("early_stopping", self.early_stopping != default.early_stopping, early_stopping);
        let forced_eos = &self.forced_eos_token_id;
        put("forced_eos_token_id", !forced_eos.is_empty(), one_or_list(forced_eos));
    }
}

fn early_stopping(fields: &mut Fields) -> EarlyStopping {
    match fields.get("early_stopping") {
        None | Some(Value::Bool(false)) => EarlyStopping::No,
        Some(Value::Bool(true)) => EarlyStopping::Yes,
        Some(Value::String(word)) if word == "never" => EarlyStopping::Never,
        Some(_) => {
            fields.fault("early_stopping", "must be true, false or \"never\"");
            EarlyStopping::No
        }
    }
}

/// Pairs of a sequence of tokens and a number.
fn sequence_bias(fields: &mut Fields) -> Vec<(Vec<u32>, f64)> {
    let read = |value: &Value| serde_json::from_value::<Vec<(Vec<u32>, f64)>>(value.clone()).ok();
    let finite = |all: &Vec<(Vec<u32>, f64)>| all.iter().all(|(_, bias)| bias.is_finite());
    let expected = "a list of pairs of a list of token ids and a number";
    let found = fields.read("sequence_bias", expected, |value| read(value).filter(finite));
    found.unwrap_or_default()
}

/// A number of tokens and a factor.
fn decay(fields: &mut Fields) -> Option<(usize, f64)> {
    let read = |value: &Value| serde_json::from_value::<(usize, f64)>(value.clone()).ok();
    let expected = "a pair of a number of tokens and a factor";
    fields.read("exponential_decay_length_penalty", expected, read)
}
