//! Arbitrary bytes as the JSON files of a tokeniser give an error, or a tokeniser that encodes and
//! decodes.
//!
//! `tokenizer.json` is not fuzzed. The `tokenizers` library panics on some broken files; tfm-text
//! catches that, but a fuzzer stops at any panic. A property test damages such files instead.
//!
//! Good seeds: any `vocab.json`, `tokenizer_config.json` and `special_tokens_map.json`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tfm_text::{Files, Tokenizer};

const SPM: &[u8] = include_bytes!("../../crates/tfm-text/tests/golden/tiny-bpe-bytes.spm");
const VOCAB: &[u8] = br#"{"</s>": 0, "<unk>": 1, ">>fra<<": 2, "a": 3, "<pad>": 4}"#;

fuzz_target!(|bytes: &[u8]| {
    let models = [("source.spm", SPM), ("target.spm", SPM)];
    exercise(&[&models[..], &[("vocab.json", bytes)]].concat());
    exercise(&[&models[..], &[("vocab.json", VOCAB), ("tokenizer_config.json", bytes)]].concat());
    exercise(&[&models[..], &[("vocab.json", VOCAB), ("special_tokens_map.json", bytes)]].concat());
});

fn exercise(files: &[(&str, &[u8])]) {
    let Ok(tokenizer) = Tokenizer::from_files(&Files::Memory(files)) else { return };
    // The vocabulary may lack the language.
    let Ok(ids) = tokenizer.encode_source(">>fra<< Hello </s> é a") else { return };
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.source_vocab_size()));
    tokenizer.decode_target(&ids).expect("Marian decodes any ids");
}
