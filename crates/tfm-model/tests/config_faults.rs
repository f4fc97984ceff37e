//! Configurations: what is written is what is meant, and every fault is named at once.

use serde_json::{Value, json};
use tfm_model::checkpoint::Fault;
use tfm_model::config::{Activation, NormPlacement, Positions, SinusoidLayout};
use tfm_model::generation::EarlyStopping;
use tfm_model::{Config, GenerationOptions};

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
    Config::from_json(config.to_string().as_bytes(), generation.as_deref().map(str::as_bytes))
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
    assert_eq!(config.activation, Activation::Gelu);
    assert_eq!(config.embedding_scale, 1.0);
    assert_eq!(config.norm_epsilon, 1e-5);
    assert!(
        config.shared_embeddings
            && config.tied_output
            && config.output_bias
            && config.linear_biases
    );
    assert_eq!(config.target_vocabulary, 20);
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
    assert_eq!(config.norm_placement, NormPlacement::Pre);
    assert_eq!((config.norm_epsilon, config.final_norm), (1e-6, false));
    assert_eq!(config.positions, Positions::Learned { offset: 2 });
    assert_eq!((config.linear_biases, config.output_bias), (false, true));
    assert_eq!(config.activation, Activation::GeluTanh);
    assert_eq!(config.embedding_scale, 8f64.sqrt());
    let (config, _) = read(&with(marian(), json!({ "model_type": "transformer" })), None).unwrap();
    assert_eq!(config.positions, Positions::Sinusoidal(SinusoidLayout::Interleaved));
    assert_eq!((config.norm_placement, config.final_norm), (NormPlacement::Post, true));
    assert_eq!((config.activation, config.output_bias), (Activation::Relu, false));
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
    assert_eq!(read(&shared, None).unwrap().0.target_vocabulary, 20);
    let separate = with(shared, json!({ "share_encoder_decoder_embeddings": false }));
    assert_eq!(read(&separate, None).unwrap().0.target_vocabulary, 30);
}

#[test]
fn an_unknown_family_names_those_that_are_supported() {
    let faults = faults(&with(marian(), json!({ "model_type": "bart" })));
    let [(field, problem)] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!(field, "model_type");
    assert!(problem.contains("\"bart\"") && problem.contains("marian, transformer"), "{problem}");
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
    let problem = |json: &[u8]| match &Config::from_json(json, None).unwrap_err()[..] {
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
