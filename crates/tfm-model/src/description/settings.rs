//! All settings of `GenerationConfig` of Hugging Face `transformers` 5, and what becomes of each.
//! `docs/generation.md` has the same table; a test holds the two equal.

use crate::json::{Fields, excerpt};
use serde_json::Value;

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in `generation_config.json`.
    pub name: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// More about that.
    pub note: &'static str,
}

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It does what it does in `transformers`.
    Honoured,
    /// It does not change what is generated.
    NoEffect,
    /// It would change what is generated: a fault, unless it has a value that changes nothing.
    Refused,
}

const fn honoured(name: &'static str, note: &'static str) -> Setting {
    Setting { name, fate: Fate::Honoured, note }
}

const fn without_effect(name: &'static str, note: &'static str) -> Setting {
    Setting { name, fate: Fate::NoEffect, note }
}

const fn refused(name: &'static str, note: &'static str) -> Setting {
    Setting { name, fate: Fate::Refused, note }
}

const CACHE: &str = "how keys and values are kept";
const RESULT: &str = "what else is returned";
const ASSISTED: &str = "decoding with a second model or look-up: faster, the same text";
const COMPILED: &str = "how it is computed";
const HUB: &str = "left `transformers` 5 for code on the hub";

/// Every setting, in the order of `transformers`.
pub const SETTINGS: &[Setting] = &[
    honoured(
        "max_length",
        "without it and `max_new_tokens` the model's positions are the limit, not 20",
    ),
    honoured("max_new_tokens", ""),
    honoured("min_length", ""),
    honoured("min_new_tokens", ""),
    honoured("early_stopping", ""),
    refused("max_time", "the text would depend on the machine"),
    refused("stop_strings", ""),
    honoured("do_sample", "with `num_beams` = 1"),
    honoured("num_beams", "1 to 1024"),
    without_effect("use_mtp", ASSISTED),
    without_effect("use_cache", CACHE),
    without_effect("cache_implementation", CACHE),
    without_effect("cache_config", CACHE),
    without_effect("max_cache_len", CACHE),
    honoured("temperature", "with `do_sample`"),
    honoured("top_k", "with `do_sample`; 50 where it is not set, 0 for all tokens"),
    honoured("top_p", "with `do_sample`"),
    honoured("min_p", "with `do_sample`"),
    honoured("top_h", "with `do_sample`"),
    honoured("typical_p", "with `do_sample`"),
    honoured("epsilon_cutoff", "with `do_sample`"),
    honoured("eta_cutoff", "with `do_sample`"),
    honoured("repetition_penalty", ""),
    honoured("encoder_repetition_penalty", ""),
    honoured("length_penalty", "from -10 to 10"),
    honoured("no_repeat_ngram_size", ""),
    honoured("bad_words_ids", ""),
    honoured("renormalize_logits", ""),
    honoured("forced_bos_token_id", ""),
    honoured("forced_eos_token_id", ""),
    without_effect("remove_invalid_values", "numbers that are none end in an error"),
    honoured("exponential_decay_length_penalty", ""),
    honoured("suppress_tokens", ""),
    honoured("begin_suppress_tokens", ""),
    honoured("sequence_bias", ""),
    refused("token_healing", ""),
    refused("guidance_scale", "1 changes nothing"),
    refused("watermarking_config", ""),
    without_effect("num_return_sequences", "whoever asks says how many (`n_best`)"),
    without_effect("output_attentions", RESULT),
    without_effect("output_hidden_states", RESULT),
    without_effect("output_scores", RESULT),
    without_effect("output_logits", RESULT),
    without_effect("return_dict_in_generate", RESULT),
    honoured("pad_token_id", ""),
    honoured("bos_token_id", ""),
    honoured("eos_token_id", ""),
    honoured("encoder_no_repeat_ngram_size", ""),
    honoured("decoder_start_token_id", ""),
    without_effect("is_assistant", ASSISTED),
    without_effect("num_assistant_tokens", ASSISTED),
    without_effect("num_assistant_tokens_schedule", ASSISTED),
    without_effect("assistant_confidence_threshold", ASSISTED),
    without_effect("prompt_lookup_num_tokens", ASSISTED),
    without_effect("max_matching_ngram_size", ASSISTED),
    without_effect("assistant_early_exit", ASSISTED),
    without_effect("assistant_lookbehind", ASSISTED),
    without_effect("target_lookbehind", ASSISTED),
    without_effect("assistant_ensemble_weight", ASSISTED),
    without_effect("speculation_type", ASSISTED),
    without_effect("compile_config", COMPILED),
    without_effect("disable_compile", COMPILED),
    without_effect("continuous_batching_config", COMPILED),
    without_effect("low_memory", COMPILED),
    refused("penalty_alpha", HUB),
    refused("dola_layers", HUB),
    refused("diversity_penalty", HUB),
    refused("num_beam_groups", HUB),
    refused("constraints", HUB),
    refused("force_words_ids", HUB),
    without_effect("prefill_chunk_size", COMPILED),
    without_effect("transformers_version", "who wrote the file"),
];

/// Names the settings that would change what is generated and are not honoured.
pub(super) fn refuse(fields: &mut Fields) {
    for setting in SETTINGS.iter().filter(|setting| setting.fate == Fate::Refused) {
        let value = fields.get(setting.name).filter(|value| !changes_nothing(setting.name, value));
        if let Some(value) = value {
            let value = excerpt(value);
            let problem = format!("is {value}, which is not supported and changes the output");
            fields.fault(setting.name, format!("{problem}: take it out to generate without"));
        }
    }
}

fn changes_nothing(name: &str, value: &Value) -> bool {
    match (name, value) {
        (_, Value::Bool(false)) => true,
        (_, Value::Array(list)) => list.is_empty(),
        ("guidance_scale" | "num_beam_groups", Value::Number(one)) => one.as_f64() == Some(1.0),
        ("diversity_penalty" | "penalty_alpha", Value::Number(zero)) => zero.as_f64() == Some(0.0),
        _ => false,
    }
}
