//! Arbitrary bytes as a PTX module.

#![no_main]

#[path = "../entries/ptx.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run(bytes));
