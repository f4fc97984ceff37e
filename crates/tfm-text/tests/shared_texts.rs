//! The real tokenisers over whole test sets: a hash over all ids must be the one that the Python
//! packages give.

mod support;

use support::{digest, json, shared, texts};
use tfm_text::Tokenizer;

/// The bytes of a text, as a row to hash.
fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn ids_and_texts_hash_as_recorded() {
    let fixture = json("digests.json");
    let digests = fixture["digests"].as_array().unwrap();
    assert_eq!(digests.len(), 25);
    for expected in digests {
        let folder = expected["tokenizer"].as_str().unwrap();
        let (kind, language) =
            (expected["texts"][0].as_str().unwrap(), expected["texts"][1].as_str().unwrap());
        let (Some(folder), Some(texts)) = (shared(folder), texts(kind, language)) else { continue };
        let place = format!("{} on {kind} {language}", folder.display());
        assert_eq!(texts.len() as u64, expected["lines"].as_u64().unwrap(), "{place}");

        let tokenizer = Tokenizer::from_dir(&folder).unwrap();
        let source = texts.iter().map(|text| tokenizer.encode_source(text).unwrap());
        assert_eq!(digest(source), expected["source"].as_str().unwrap(), "{place}: source ids");
        let target: Vec<_> =
            texts.iter().map(|text| tokenizer.encode_target(text).unwrap()).collect();
        let decoded = target.iter().map(|ids| bytes(&tokenizer.decode_target(ids).unwrap()));
        assert_eq!(digest(decoded), expected["decoded"].as_str().unwrap(), "{place}: texts");
        assert_eq!(digest(target), expected["target"].as_str().unwrap(), "{place}: target ids");
    }
}
