//! Arbitrary bytes as a SentencePiece model give an error, or a model that encodes and decodes.
//!
//! Good seeds: `crates/tfm-text/tests/golden/*.spm`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tfm_text::SentencePiece;

const TEXT: &str = "Hello,  wörld ▁ e\u{301} ﬁ \u{200d}日本 👩‍👧 <unk> foo a b\0é";

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = SentencePiece::from_bytes(bytes, "fuzz.spm") else { return };
    let ids = model.encode(TEXT).expect("a short text is encoded");
    let pieces = model.encode_pieces(TEXT).expect("a short text is encoded");
    assert_eq!(ids.len(), pieces.len());
    model.decode(&ids).expect("ids of the model itself are decoded");
    model.decode_pieces(pieces.iter().map(String::as_str));
    // The input itself, as far as it is text, contains the model's own pieces.
    model.encode(&String::from_utf8_lossy(bytes)).expect("a short text is encoded");
});
