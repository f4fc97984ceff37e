//! Configurations: what is written is what is meant, and every fault is named at once.

use serde_json::{Value, json};
use tfm_model::config::{
    Activation, NormPlacement, OutputBias, PositionKind, PositionTable, SinusoidLayout,
};
use tfm_model::generation::EarlyStopping;
use tfm_model::{Config, Description, Fault, GenerationOptions};

fn marian() -> Value {
    json!({
        "model_type": "marian", "d_model": 8, "vocab_size": 20, "max_position_embeddings": 16,
        "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 12,
        "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 10,
        "eos_token_id": 0, "pad_token_id": 19, "decoder_start_token_id": 19,
    })
}

fn with(mut config: Value, changes: Value) -> Value {
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

fn read(
    config: &Value,
    generation: Option<&Value>,
) -> Result<(Config, GenerationOptions), Vec<Fault>> {
    let generation = generation.map(Value::to_string);
    Description::from_json(config.to_string().as_bytes(), generation.as_deref().map(str::as_bytes))
        .map(|read| (read.config, read.generation))
}

/// The fields that are at fault, and what is said of them.
fn faults(config: &Value) -> Vec<(String, String)> {
    let fields = |fault| match fault {
        Fault::Field { field, problem, .. } => (field, problem),
        other => panic!("{other}"),
    };
    read(config, None).unwrap_err().into_iter().map(fields).collect()
}

fn fields_at_fault(config: &Value) -> Vec<String> {
    faults(config).into_iter().map(|(field, _)| field).collect()
}

#[test]
fn fields_that_are_left_out_have_the_defaults_of_transformers() {
    let (config, generation) = read(&marian(), None).unwrap();
    let stack = &config.encoder;
    assert_eq!(stack.feed_forward.activation, Activation::Gelu);
    assert_eq!(config.source.scale, 1.0);
    assert_eq!(stack.norm.epsilon, 1e-5);
    assert!(config.shared_embeddings && config.output.tied);
    assert!(stack.attention.biases && stack.feed_forward.biases);
    // Neither is learnt there: the bias, and the rows that padding has in the tables.
    assert_eq!(config.output.bias, OutputBias::Constant);
    assert_eq!(config.source.unlearnt, Some(19));
    assert_eq!(config.target.vocabulary, 20);
    assert_eq!(generation, GenerationOptions::new(19, vec![0]));
}

#[test]
fn the_papers_transformer_is_described_by_data() {
    let paper = with(
        marian(),
        json!({ "model_type": "transformer", "norm_first": true, "norm_eps": 1e-6, "bos_token_id": 1,
                "positions": "learned", "position_offset": 2, "bias": false, "final_norm": false,
                "activation_function": "gelu_new", "tie_word_embeddings": false }),
    );
    let (config, _) = read(&paper, None).unwrap();
    for stack in [&config.encoder, &config.decoder] {
        assert_eq!(stack.norm.placement, NormPlacement::Pre);
        assert_eq!((stack.norm.epsilon, stack.norm.after_last_layer), (1e-6, false));
        assert!(!stack.attention.biases && !stack.feed_forward.biases);
        assert_eq!(stack.feed_forward.activation, Activation::GeluTanh);
    }
    for embedding in [&config.source, &config.target] {
        let kind = PositionKind::Learned { offset: 2 };
        assert_eq!(embedding.positions, Some(PositionTable { rows: 16, kind }));
        assert_eq!((embedding.scale, embedding.unlearnt), (8f64.sqrt(), None));
    }
    assert_eq!((config.decoder.attention.count, config.cross_attention.size), (4, 2));
    assert!(!config.cross_attention.biases);
    assert_eq!(config.output.bias, OutputBias::Learnt);
    let (config, _) = read(&with(marian(), json!({ "model_type": "transformer" })), None).unwrap();
    let kind = PositionKind::Sinusoidal(SinusoidLayout::Interleaved);
    assert_eq!(config.target.positions, Some(PositionTable { rows: 16, kind }));
    let stack = &config.decoder;
    assert_eq!((stack.norm.placement, stack.norm.after_last_layer), (NormPlacement::Post, true));
    assert_eq!(stack.feed_forward.activation, Activation::Relu);
    assert_eq!(config.output.bias, OutputBias::None);
}

#[test]
fn generation_settings_come_from_their_file_or_else_from_the_configuration() {
    let config =
        with(marian(), json!({ "num_beams": 6, "max_length": 512, "bad_words_ids": [[19]] }));
    let (_, old) = read(&config, None).unwrap();
    assert_eq!((old.num_beams, old.max_length), (6, Some(512)));
    assert_eq!(old.bad_words_ids, [[19]]);

    let settings = json!({
        "num_beams": 4, "max_new_tokens": 7, "early_stopping": "never", "length_penalty": 0.6,
        "forced_eos_token_id": 5, "eos_token_id": [5, 0], "no_repeat_ngram_size": 3,
        "renormalize_logits": true,
    });
    let (config, new) = read(&config, Some(&settings)).unwrap();
    assert_eq!((new.num_beams, new.max_length, new.max_new_tokens), (4, None, Some(7)));
    assert_eq!((new.early_stopping, new.length_penalty), (EarlyStopping::Never, 0.6));
    assert_eq!((new.forced_eos_token_id, new.no_repeat_ngram_size), (vec![5], 3));
    assert!(new.renormalize_logits && new.bad_words_ids.is_empty());
    assert_eq!(config.special.eos, [5, 0]);
    assert_eq!(config.special.decoder_start, 19);
}

#[test]
fn the_shared_vocabulary_is_the_sources() {
    let shared = with(marian(), json!({ "decoder_vocab_size": 30 }));
    assert_eq!(read(&shared, None).unwrap().0.target.vocabulary, 20);
    let separate = with(shared, json!({ "share_encoder_decoder_embeddings": false }));
    assert_eq!(read(&separate, None).unwrap().0.target.vocabulary, 30);
}

#[test]
fn an_unknown_family_names_those_that_are_supported() {
    let faults = faults(&with(marian(), json!({ "model_type": "whisper" })));
    let [(field, problem)] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!(field, "model_type");
    assert!(problem.contains("\"whisper\"") && problem.contains("marian, bart, "), "{problem}");
}

#[test]
fn a_family_is_known_by_its_classes_too() {
    let mut config = with(marian(), json!({ "architectures": ["MarianMTModel"] }));
    config.as_object_mut().unwrap().remove("model_type");
    let text = config.to_string();
    let read = Description::from_json(text.as_bytes(), None).unwrap();
    assert_eq!(read.family.model_type(), "marian");
    config["architectures"] = json!(["WhisperModel"]);
    assert_eq!(fields_at_fault(&config), ["model_type"]);
    config["architectures"] = json!("MarianMTModel");
    assert_eq!(fields_at_fault(&config), ["architectures", "model_type"]);
}

#[test]
fn settings_that_would_change_the_result_are_refused_by_name() {
    let harmless = json!({
        "normalize_before": false, "normalize_embedding": false, "add_final_layer_norm": false,
        "static_position_embeddings": true, "is_encoder_decoder": true, "is_decoder": false,
        "tie_encoder_decoder": false, "pruned_heads": {}, "quantization_config": null,
        "encoder_layerdrop": 0.1, "dropout": 0.1, "add_bias_logits": false,
    });
    read(&with(marian(), harmless), None).unwrap();
    let harmful = json!({
        "normalize_before": true, "normalize_embedding": true, "add_final_layer_norm": true,
        "static_position_embeddings": false, "is_encoder_decoder": false, "is_decoder": true,
        "tie_encoder_decoder": true, "pruned_heads": { "0": [1] },
        "quantization_config": { "quant_method": "bitsandbytes" },
    });
    let mut expected: Vec<String> = harmful.as_object().unwrap().keys().cloned().collect();
    let mut found = fields_at_fault(&with(marian(), harmful));
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_missing_field_is_named_once() {
    assert_eq!(
        fields_at_fault(&json!({ "model_type": "marian" })),
        [
            "decoder_start_token_id",
            "d_model",
            "vocab_size",
            "encoder_layers",
            "encoder_attention_heads",
            "encoder_ffn_dim",
            "decoder_layers",
            "decoder_attention_heads",
            "decoder_ffn_dim",
            "max_position_embeddings",
            "eos_token_id",
        ]
    );
}

#[test]
fn senseless_values_are_named_together() {
    let config = with(
        marian(),
        json!({
            "encoder_layers": 0, "encoder_attention_heads": 3, "decoder_ffn_dim": 1u64 << 60,
            "decoder_layers": -1, "activation_function": "sin", "scale_embedding": "yes",
            "max_position_embeddings": 1.5, "eos_token_id": 20, "pad_token_id": 99,
            "decoder_start_token_id": 4294967296u64, "num_beams": 0, "repetition_penalty": 0,
            "bad_words_ids": [[1], []], "forced_bos_token_id": 20, "early_stopping": "soon",
            "max_length": 0,
        }),
    );
    let mut found = fields_at_fault(&config);
    found.sort();
    assert_eq!(
        found,
        [
            "activation_function",
            "bad_words_ids",
            "decoder_ffn_dim",
            "decoder_layers",
            "decoder_start_token_id",
            "early_stopping",
            "encoder_attention_heads",
            "encoder_layers",
            "eos_token_id",
            "forced_bos_token_id",
            "max_length",
            "max_position_embeddings",
            "num_beams",
            "pad_token_id",
            "repetition_penalty",
            "scale_embedding",
        ]
    );
}

#[test]
fn files_that_are_no_configuration_say_so() {
    let problem = |json: &[u8]| match &Description::from_json(json, None).unwrap_err()[..] {
        [Fault::File { file, problem }] => {
            assert_eq!(file, "config.json");
            problem.clone()
        }
        other => panic!("{other:?}"),
    };
    assert!(problem(b"{\"d_model\": ").contains("not valid JSON"));
    assert!(problem(b"\xff\xfe").contains("not valid JSON"));
    assert!(problem(b"[1]").contains("not a JSON object"));
    assert!(problem("[".repeat(100_000).as_bytes()).contains("recursion"));
    assert!(problem(&vec![b' '; 2 << 20]).contains("1048576"));
}

#[test]
fn both_files_are_checked_at_once() {
    let config = with(marian(), json!({ "d_model": 0 }));
    let faults = read(&config, Some(&json!({ "num_beams": "four" }))).unwrap_err();
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "config.json: `d_model` is 0, but must lie between 1 and 65536",
            "generation_config.json: `num_beams` is \"four\", but must be a whole number",
        ]
    );
}
