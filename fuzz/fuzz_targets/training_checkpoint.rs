//! Arbitrary bytes as the files of a training's checkpoint.

#![no_main]

#[path = "../entries/training_checkpoint.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run(bytes));
