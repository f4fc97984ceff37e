//! Arbitrary bytes as the file of a shortlist.

#![no_main]

use sha2::{Digest, Sha256};

#[path = "../entries/shortlist.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    entry::run(bytes);
    entry::run(&[bytes, &Sha256::digest(bytes)].concat());
});
