//! Tiny checkpoints of every family, and the bundled model, beside what `transformers` and `torch`
//! answer for them: encoder outputs, logits, greedy and beam searches under many options. See
//! `fixtures/README.md`.

mod common;

use common::{cpu, fixture, largest_difference, open, reference, root, scheduler};
use safetensors::SafeTensors;
use serde_json::Value;
use std::sync::Arc;
use tfm_model::generation::{EarlyStopping, GenerationOptions};
use tfm_model::scheduler::Limits;
use tfm_model::{Config, Numerics, Pair, TeacherForcing};

const CHECKPOINTS: [&str; 19] = [
    "marian_swish_tied",
    "marian_relu_untied",
    "marian_relu_all_separate",
    "marian_gelu_separate_vocab",
    "marian_eos_nonzero",
    "bart",
    "bart_scaled",
    "mbart",
    "plbart",
    "pegasus",
    "blenderbot",
    "m2m_100",
    "m2m_100_odd",
    "t5",
    "t5_v1_1",
    "mt5",
    "umt5",
    "nn_transformer_post",
    "nn_transformer_pre",
];

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(name).join("golden.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn words<const N: usize>(file: &SafeTensors<'_>, name: &str) -> Vec<[u8; N]> {
    file.tensor(name).unwrap().data().chunks_exact(N).map(|word| word.try_into().unwrap()).collect()
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    words(file, name).into_iter().map(f32::from_le_bytes).collect()
}

fn u32s(file: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    words(file, name).into_iter().map(u32::from_le_bytes).collect()
}

#[test]
fn encoder_outputs_and_logits_agree_on_every_backend() {
    for name in CHECKPOINTS {
        let checkpoint = open(fixture(name));
        let config = Arc::new(checkpoint.config().clone());
        let bytes = std::fs::read(fixture(name).join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let sentences = golden(name)["teacher_forced"].as_array().unwrap().len();
        assert!(sentences >= 3, "{name} has {sentences} sentences");
        for (backend, session) in
            [("cpu", cpu(&checkpoint, 2)), ("reference", reference(&checkpoint))]
        {
            let mut model = TeacherForcing::new(session, config.clone(), Numerics::default());
            for i in 0..sentences {
                let source = u32s(&file, &format!("{i}.source_ids"));
                let target = u32s(&file, &format!("{i}.decoder_ids"));
                let encoded = model.encode(&[&source]).unwrap();
                let expected = f32s(&file, &format!("{i}.encoder_output"));
                let error = largest_difference(encoded.as_f32().unwrap(), &expected);
                assert!(error < 1e-4, "{name} on {backend}, encoder output {i}: {error:e}");
                let logits = model.logits(&[Pair { source: &source, target: &target }]).unwrap();
                let expected = f32s(&file, &format!("{i}.logits"));
                let error = largest_difference(logits.as_f32().unwrap(), &expected);
                assert!(error < 1e-4, "{name} on {backend}, logits {i}: {error:e}");
            }
        }
    }
}

/// The search that `generate` does with these keyword arguments and nothing else.
fn options(arguments: &Value, config: &Config) -> GenerationOptions {
    let special = &config.special;
    let mut options = GenerationOptions::new(special.decoder_start, special.eos.clone());
    for (argument, value) in arguments.as_object().unwrap() {
        let count = || value.as_u64().unwrap() as usize;
        let tokens =
            || if value.is_array() { ids(value) } else { vec![value.as_u64().unwrap() as u32] };
        match argument.as_str() {
            "num_beams" => options.num_beams = count(),
            "num_return_sequences" => options.num_return_sequences = count(),
            "max_length" => options.max_length = Some(count()),
            "max_new_tokens" => options.max_new_tokens = Some(count()),
            "min_length" => options.min_length = count(),
            "min_new_tokens" => options.min_new_tokens = Some(count()),
            "length_penalty" => options.length_penalty = value.as_f64().unwrap(),
            "early_stopping" => {
                options.early_stopping = match value {
                    Value::Bool(true) => EarlyStopping::Yes,
                    Value::Bool(false) => EarlyStopping::No,
                    _ => EarlyStopping::Never,
                }
            }
            "bad_words_ids" => {
                options.bad_words_ids = value.as_array().unwrap().iter().map(ids).collect()
            }
            "forced_bos_token_id" => options.forced_bos_token_id = Some(count() as u32),
            "forced_eos_token_id" => options.forced_eos_token_id = tokens(),
            "no_repeat_ngram_size" => options.no_repeat_ngram_size = count(),
            "repetition_penalty" => options.repetition_penalty = value.as_f64().unwrap(),
            "renormalize_logits" => options.renormalize_logits = value.as_bool().unwrap(),
            other => panic!("the golden file has an option this test does not know: {other}"),
        }
    }
    options
}

#[test]
fn generations_are_token_for_token_those_of_transformers() {
    for name in CHECKPOINTS {
        let checkpoint = open(fixture(name));
        let config = Arc::new(checkpoint.config().clone());
        let session = cpu(&checkpoint, 1);
        let (numerics, limits) = (Numerics::default(), Limits::default());
        let scheduler = scheduler(&session, &config, numerics, (1, 1), limits);
        let golden = golden(name);
        let cases = golden["generations"].as_array().unwrap();
        assert!(cases.len() >= 5, "{name} has {} generations", cases.len());
        for (number, case) in cases.iter().enumerate() {
            let options = options(&case["options"], &config);
            let sources = [ids(&case["source"])];
            let found = scheduler.generate(&Arc::new(options), &sources).unwrap();
            let tokens: Vec<Vec<u32>> =
                found[0].iter().map(|hypothesis| hypothesis.tokens.clone()).collect();
            let expected: Vec<Vec<u32>> =
                case["outputs"].as_array().unwrap().iter().map(ids).collect();
            assert_eq!(tokens, expected, "{name}, generation {number}: {}", case["options"]);
            for (hypothesis, score) in found[0].iter().zip(case["scores"].as_array().unwrap()) {
                let score = score.as_f64().unwrap();
                let error = (f64::from(hypothesis.score) - score).abs();
                assert!(
                    error < 1e-4 * score.abs().max(1.0),
                    "{name}, {number}: {} {score}",
                    hypothesis.score
                );
            }
        }
        println!("{name}: {} generations", cases.len());
    }
}

#[test]
fn a_models_own_settings_rule_where_no_others_are_given() {
    for name in CHECKPOINTS {
        let checkpoint = open(fixture(name));
        let config = Arc::new(checkpoint.config().clone());
        let session = cpu(&checkpoint, 1);
        let (numerics, limits) = (Numerics::default(), Limits::default());
        let scheduler = scheduler(&session, &config, numerics, (1, 1), limits);
        let options = Arc::new(checkpoint.generation().clone());
        let golden = golden(name);
        let cases = golden["defaults"].as_array().unwrap();
        let sources: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["source"])).collect();
        let found = scheduler.generate(&options, &sources).unwrap();
        for (case, found) in cases.iter().zip(found) {
            assert_eq!(found[0].tokens, ids(&case["output"]), "{name}");
        }
    }
}

#[test]
fn the_bundled_model_computes_what_it_does_in_transformers() {
    let checkpoint = open(root().join("crates/tfm/models/marian-tatoeba-en-fr"));
    let config = Arc::new(checkpoint.config().clone());
    let text = std::fs::read_to_string(fixture("bundled.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let bytes = std::fs::read(fixture("bundled.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stride = golden["logits_stride"].as_u64().unwrap() as usize;
    let sentences = golden["teacher_forced"].as_array().unwrap();
    assert!(sentences.len() >= 5 && sentences.iter().any(|sentence| sentence["aligned"] == true));
    let mut model = TeacherForcing::new(cpu(&checkpoint, 2), config.clone(), Numerics::default());
    for (i, sentence) in sentences.iter().enumerate() {
        let source = u32s(&file, &format!("{i}.source_ids"));
        let target = u32s(&file, &format!("{i}.decoder_ids"));
        let pair = Pair { source: &source, target: &target };
        let close = |what: &str, found: &[f32], expected: &[f32]| {
            let error = largest_difference(found, expected);
            assert!(error < 1e-4, "{what} of sentence {i}: {error:e}");
        };
        let encoded = model.encode(&[&source]).unwrap();
        let expected = f32s(&file, &format!("{i}.encoder_output"));
        close("encoder output", encoded.as_f32().unwrap(), &expected);
        let logits = model.logits(&[pair]).unwrap();
        let rows = logits.as_f32().unwrap().chunks(config.target.vocabulary);
        let kept: Vec<f32> = rows.flat_map(|row| row.iter().step_by(stride)).copied().collect();
        close("logits", &kept, &f32s(&file, &format!("{i}.logits_strided")));
        if sentence["aligned"] == true {
            let expected = f32s(&file, &format!("{i}.cross_attention"));
            let layers = expected.chunks(source.len() * target.len());
            assert_eq!(layers.len(), config.decoder.layers);
            for (layer, expected) in layers.enumerate() {
                let found = model.alignment(pair, layer).unwrap();
                close(&format!("attention of layer {layer}"), &found, expected);
            }
        }
    }
}
