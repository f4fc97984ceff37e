//! Arbitrary bytes as a text file.

#![no_main]

#[path = "../entries/lines.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run(bytes));
