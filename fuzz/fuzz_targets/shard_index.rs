//! Arbitrary bytes as the index of a sharded model.

#![no_main]

#[path = "../entries/shard_index.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run(bytes));
