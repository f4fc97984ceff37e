//! Arbitrary bytes as the configuration of a training.

#![no_main]

#[path = "../entries/train_config.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run(bytes));
