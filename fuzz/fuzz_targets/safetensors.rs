//! Arbitrary bytes as a file of weights.

#![no_main]

#[path = "../entries/safetensors.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run(bytes));
