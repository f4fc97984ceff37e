//! Arbitrary calls of the methods that build graphs, followed by compilation.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tfm_core::testing::graph_from_bytes(bytes);
});
