//! Arbitrary bytes as the file of a shortlist give an error, or lists of tokens that the vocabulary
//! has.
//!
//! Shared by the fuzz target and by the property tests of tfm-text. The file ends with a hash of
//! what stands before, which no fuzzer guesses. So the target reads the bytes a second time,
//! followed by the hash that fits them.

use tfm_text::Shortlist;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(shortlist) = Shortlist::from_bytes(bytes, "fuzz") else { return };
    // The bytes are equal, so everything that was read is kept.
    assert_eq!(shortlist.to_bytes(), bytes);
    let source: Vec<u32> = (0..64).chain([u32::MAX]).collect();
    let tokens = shortlist.tokens(&source, &[3, 1]);
    assert!(tokens.is_sorted_by(|a, b| a < b));
    assert!(shortlist.frequent().iter().all(|token| tokens.binary_search(token).is_ok()));
}
