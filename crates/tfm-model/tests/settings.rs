//! Every setting of `GenerationConfig` is honoured, without effect, or refused by name.

use serde_json::{Value, json};
use std::path::Path;
use tfm_model::Description;
use tfm_model::description::settings::{Fate, SETTINGS};

/// Reads a small model with these settings. The texts of all faults, if there are any.
fn read(settings: &Value) -> Result<Description, Vec<String>> {
    let config = json!({
        "model_type": "marian", "d_model": 8, "vocab_size": 20, "max_position_embeddings": 16,
        "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 12,
        "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 10,
        "eos_token_id": 0, "pad_token_id": 19, "decoder_start_token_id": 19,
    });
    let (config, settings) = (config.to_string(), settings.to_string());
    let read = Description::from_json(config.as_bytes(), Some(settings.as_bytes()));
    read.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn the_table_has_all_settings_of_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/processors.json")).unwrap();
    let theirs: Vec<&str> =
        golden["settings"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let ours: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn the_page_has_the_same_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/generation.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let row = |setting: &tfm_model::description::settings::Setting| {
        let fate = match setting.fate {
            Fate::Honoured => "honoured",
            Fate::NoEffect => "no effect",
            Fate::Refused => "refused",
            other => panic!("the page has no word for {other:?}"),
        };
        format!("| `{}` | {fate} | {} |", setting.name, setting.note)
    };
    let expected: Vec<String> = SETTINGS.iter().map(row).collect();
    assert_eq!(rows, expected);
}

#[test]
fn what_is_not_supported_is_refused_with_its_name_and_value() {
    let values = [
        ("max_time", json!(1.5)),
        ("stop_strings", json!(["."])),
        ("token_healing", json!(true)),
        ("guidance_scale", json!(1.5)),
        ("watermarking_config", json!({ "greenlist_ratio": 0.25 })),
        ("penalty_alpha", json!(0.6)),
        ("dola_layers", json!("high")),
        ("diversity_penalty", json!(0.5)),
        ("num_beam_groups", json!(2)),
        ("constraints", json!([{}])),
        ("force_words_ids", json!([[3]])),
    ];
    let refused: Vec<&str> = SETTINGS
        .iter()
        .filter(|setting| setting.fate == Fate::Refused)
        .map(|setting| setting.name)
        .collect();
    let mut covered: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    covered.sort_by_key(|name| refused.iter().position(|other| other == name));
    assert_eq!(covered, refused);
    for (name, value) in values {
        let faults = read(&json!({ (name): value })).unwrap_err();
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        let start = format!("generation_config.json: `{name}` is {value}, which is not supported");
        assert!(fault.starts_with(&start), "{fault}");
    }
    let neutral = json!({
        "max_time": null, "stop_strings": null, "token_healing": false, "guidance_scale": 1.0,
        "penalty_alpha": 0.0, "diversity_penalty": 0.0, "num_beam_groups": 1, "constraints": [],
        "force_words_ids": null, "of_our_own": { "whatever": 1 }, "use_cache": false,
    });
    assert!(read(&neutral).is_ok());
}

#[test]
fn what_is_honoured_is_read_and_written() {
    let settings = json!({
        "do_sample": true, "temperature": 0.7, "top_k": 0, "top_p": 0.9, "min_p": 0.1, "top_h": 0.5,
        "typical_p": 0.8, "epsilon_cutoff": 0.01, "eta_cutoff": 0.02, "repetition_penalty": 0.9,
        "encoder_repetition_penalty": 1.2, "encoder_no_repeat_ngram_size": 4,
        "exponential_decay_length_penalty": [5, 1.1], "suppress_tokens": [3, 4],
        "begin_suppress_tokens": [5], "sequence_bias": [[[6, 7], -1.5], [[8], 2.0]],
        "no_repeat_ngram_size": 3, "length_penalty": 0.6, "renormalize_logits": true,
        "bad_words_ids": [[9]], "max_length": 12, "min_length": 2, "num_beams": 1,
        "early_stopping": "never", "forced_eos_token_id": 0,
    });
    let description = read(&settings).unwrap();
    let generation = &description.generation;
    assert_eq!(generation.validate(20, 16), Ok(()));
    assert_eq!(generation.repetition_penalty, 0.9);
    assert_eq!(generation.length_penalty, 0.6);
    assert_eq!(generation.sequence_bias, [(vec![6, 7], -1.5), (vec![8], 2.0)]);
    let [_, written] = description.to_json();
    let written: Value = serde_json::from_str(&written).unwrap();
    for (name, value) in settings.as_object().unwrap() {
        if name != "num_beams" {
            assert_eq!(&written[name], value, "{name}");
        }
    }
    assert_eq!(&read(&written).unwrap().generation, generation);
}

#[test]
fn senseless_values_are_named() {
    let settings = json!({
        "temperature": 0, "top_p": 1.5, "min_p": -0.1, "typical_p": 0, "epsilon_cutoff": 1,
        "encoder_repetition_penalty": -1, "suppress_tokens": [20], "begin_suppress_tokens": [21],
        "sequence_bias": [[[], 1.0]], "exponential_decay_length_penalty": [3],
    });
    let faults = read(&settings).unwrap_err();
    for name in settings.as_object().unwrap().keys() {
        assert!(faults.iter().any(|fault| fault.contains(&format!("`{name}`"))), "{name}");
    }
    assert_eq!(faults.len(), 10, "{faults:?}");
}

#[test]
fn faults_of_tokens_name_the_file_that_has_them() {
    for name in ["eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id"] {
        let faults = read(&json!({ (name): 99 })).unwrap_err();
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        assert!(fault.starts_with(&format!("generation_config.json: `{name}` is 99")), "{fault}");
    }
}

#[test]
fn a_decoder_starts_with_one_token() {
    let start = |settings| read(&settings).unwrap().config.special.decoder_start;
    assert_eq!(start(json!({ "decoder_start_token_id": [7] })), 7);
    let faults = read(&json!({ "decoder_start_token_id": [7, 8], "pad_token_id": [1, 2] }));
    let expected = ["pad_token_id` is [1,2]", "decoder_start_token_id` is [7,8]"];
    for (fault, expected) in faults.unwrap_err().iter().zip(expected) {
        assert_eq!(
            *fault,
            format!("generation_config.json: `{expected}, but must be one token id")
        );
    }
}

#[test]
fn what_contradicts_itself_is_named() {
    for (settings, field) in [
        (json!({ "max_length": 1 }), "max_length"),
        (json!({ "max_new_tokens": 0 }), "max_new_tokens"),
        (json!({ "length_penalty": 100 }), "length_penalty"),
        (json!({ "sequence_bias": [[[5], 1e39]] }), "sequence_bias"),
        (json!({ "forced_bos_token_id": 3, "suppress_tokens": [3] }), "forced_bos_token_id"),
        (json!({ "forced_eos_token_id": 0, "suppress_tokens": [0] }), "forced_eos_token_id"),
    ] {
        let faults = read(&settings).unwrap_err();
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        assert!(fault.starts_with(&format!("generation_config.json: `{field}`")), "{fault}");
    }
    assert!(read(&json!({ "max_length": 1, "max_new_tokens": 5 })).is_ok());
}
