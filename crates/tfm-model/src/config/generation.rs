//! How a model's makers generate with it: `generation_config.json`.

use super::fields::Fields;
use crate::search::EarlyStopping;
use serde_json::{Map, Value, json};

/// The generation settings that come with a model, in the terms of Hugging Face `transformers`.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationDefaults {
    /// Beams of beam search; 1 is greedy.
    pub num_beams: usize,
    /// The most tokens of an output, the decoder's start token included. `None` where the model says nothing.
    pub max_length: Option<usize>,
    /// The most tokens to generate. It goes before `max_length`.
    pub max_new_tokens: Option<usize>,
    /// The least tokens of an output, the decoder's start token included.
    pub min_length: usize,
    /// The least tokens to generate. It goes before `min_length`.
    pub min_new_tokens: Option<usize>,
    /// The exponent of the length that scores are divided by.
    pub length_penalty: f64,
    /// When a beam search stops.
    pub early_stopping: EarlyStopping,
    /// Sequences of tokens that are not generated.
    pub bad_words: Vec<Vec<u32>>,
    /// The first token after the decoder's start token.
    pub forced_bos: Option<u32>,
    /// The tokens of which one is the last where the maximum length is reached.
    pub forced_eos: Vec<u32>,
    /// No n-gram of this size is generated twice; 0 for no such limit.
    pub no_repeat_ngram: usize,
    /// What the log-probabilities of tokens that occurred are multiplied by.
    pub repetition_penalty: f64,
    /// Whether scores are normalised again after tokens were banned.
    pub renormalize_logits: bool,
}

impl Default for GenerationDefaults {
    /// Greedy search without limits.
    fn default() -> Self {
        GenerationDefaults {
            num_beams: 1,
            max_length: None,
            max_new_tokens: None,
            min_length: 0,
            min_new_tokens: None,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            bad_words: Vec::new(),
            forced_bos: None,
            forced_eos: Vec::new(),
            no_repeat_ngram: 0,
            repetition_penalty: 1.0,
            renormalize_logits: false,
        }
    }
}

impl GenerationDefaults {
    /// Reads the settings from `generation_config.json`, or from the `config.json` of older models.
    pub(super) fn read(fields: &mut Fields, vocabulary: usize) -> Self {
        let default = GenerationDefaults::default();
        let settings = GenerationDefaults {
            num_beams: fields.count("num_beams").unwrap_or(default.num_beams),
            max_length: fields.count("max_length"),
            max_new_tokens: fields.count("max_new_tokens"),
            min_length: fields.count("min_length").unwrap_or(default.min_length),
            min_new_tokens: fields.count("min_new_tokens"),
            length_penalty: fields.number("length_penalty").unwrap_or(default.length_penalty),
            early_stopping: early_stopping(fields),
            bad_words: fields.token_lists("bad_words_ids").unwrap_or_default(),
            forced_bos: fields.token("forced_bos_token_id"),
            forced_eos: fields.tokens("forced_eos_token_id").unwrap_or_default(),
            no_repeat_ngram: fields
                .count("no_repeat_ngram_size")
                .unwrap_or(default.no_repeat_ngram),
            repetition_penalty: fields
                .number("repetition_penalty")
                .unwrap_or(default.repetition_penalty),
            renormalize_logits: fields
                .flag("renormalize_logits")
                .unwrap_or(default.renormalize_logits),
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
        if self.bad_words.iter().any(Vec::is_empty) {
            fields.fault("bad_words_ids", "has an empty sequence, which bans nothing");
        }
        let lists = [
            ("bad_words_ids", self.bad_words.concat()),
            ("forced_bos_token_id", self.forced_bos.into_iter().collect()),
            ("forced_eos_token_id", self.forced_eos.clone()),
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
        let default = GenerationDefaults::default();
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
        put("bad_words_ids", !self.bad_words.is_empty(), json!(self.bad_words));
        put("forced_bos_token_id", self.forced_bos.is_some(), json!(self.forced_bos));
        put("forced_eos_token_id", !self.forced_eos.is_empty(), one_or_list(&self.forced_eos));
        let ngram = self.no_repeat_ngram;
        put("no_repeat_ngram_size", ngram != default.no_repeat_ngram, json!(ngram));
        let penalty = self.repetition_penalty;
        put("repetition_penalty", penalty != default.repetition_penalty, json!(penalty));
        put("renormalize_logits", self.renormalize_logits, json!(true));
    }
}

/// A list of one token as the token alone, as `transformers` writes it.
pub(super) fn one_or_list(tokens: &[u32]) -> Value {
    match tokens {
        [one] => json!(one),
        many => json!(many),
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
