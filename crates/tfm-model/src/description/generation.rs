//! How a model's makers generate with it: `generation_config.json`.

use crate::config::SpecialTokens;
use crate::generation::{EarlyStopping, GenerationOptions};
use crate::json::{Fields, one_or_list};
use serde_json::{Map, Value, json};

impl GenerationOptions {
    /// Reads the settings from `generation_config.json`, or from the `config.json` of older models.
    pub(super) fn read(fields: &mut Fields, special: &SpecialTokens, vocabulary: usize) -> Self {
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
            repetition_penalty: fields
                .number("repetition_penalty")
                .unwrap_or(default.repetition_penalty),
            renormalize_logits: fields
                .flag("renormalize_logits")
                .unwrap_or(default.renormalize_logits),
            ..default
        };
        settings.check(fields, vocabulary);
        settings
    }

    fn check(&self, fields: &mut Fields, vocabulary: usize) {
        const MOST_BEAMS: usize = 1 << 10;
        if !(1..=MOST_BEAMS).contains(&self.num_beams) {
            let problem = format!("is {}, but must lie between 1 and {MOST_BEAMS}", self.num_beams);
            fields.fault("num_beams", problem);
        }
        for (field, limit) in
            [("max_length", self.max_length), ("max_new_tokens", self.max_new_tokens)]
        {
            if limit == Some(0) {
                fields.fault(field, "is 0, which leaves no room for an output");
            }
        }
        if self.repetition_penalty <= 0.0 {
            let problem = format!("is {}, but must be above 0", self.repetition_penalty);
            fields.fault("repetition_penalty", problem);
        }
        if self.bad_words_ids.iter().any(Vec::is_empty) {
            fields.fault("bad_words_ids", "has an empty sequence, which bans nothing");
        }
        let lists = [
            ("bad_words_ids", self.bad_words_ids.concat()),
            ("forced_bos_token_id", self.forced_bos_token_id.into_iter().collect()),
            ("forced_eos_token_id", self.forced_eos_token_id.clone()),
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
        put("num_beams", self.num_beams != default.num_beams, json!(self.num_beams));
        put("max_length", self.max_length.is_some(), json!(self.max_length));
        put("max_new_tokens", self.max_new_tokens.is_some(), json!(self.max_new_tokens));
        put("min_length", self.min_length != default.min_length, json!(self.min_length));
        put("min_new_tokens", self.min_new_tokens.is_some(), json!(self.min_new_tokens));
        put(
            "length_penalty",
            self.length_penalty != default.length_penalty,
            json!(self.length_penalty),
        );
        put("early_stopping", self.early_stopping != default.early_stopping, early_stopping);
        put("bad_words_ids", !self.bad_words_ids.is_empty(), json!(self.bad_words_ids));
        put(
            "forced_bos_token_id",
            self.forced_bos_token_id.is_some(),
            json!(self.forced_bos_token_id),
        );
        put(
            "forced_eos_token_id",
            !self.forced_eos_token_id.is_empty(),
            one_or_list(&self.forced_eos_token_id),
        );
        let ngram = self.no_repeat_ngram_size;
        put("no_repeat_ngram_size", ngram != default.no_repeat_ngram_size, json!(ngram));
        let penalty = self.repetition_penalty;
        put("repetition_penalty", penalty != default.repetition_penalty, json!(penalty));
        put("renormalize_logits", self.renormalize_logits, json!(true));
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
