//! Pieces, ids and texts equal to those of the `sentencepiece` package.

mod support;

use support::{bundled, golden, ids, json, strings};
use tfm_text::{Error, SentencePiece};

fn load(name: &str) -> SentencePiece {
    let path = match name {
        "source" | "target" => bundled().join(format!("{name}.spm")),
        tiny => golden(&format!("{tiny}.spm")),
    };
    SentencePiece::from_bytes(&std::fs::read(path).unwrap(), name).unwrap()
}

#[test]
fn trained_models_equal_the_package() {
    check("sentencepiece.json", 6);
}

#[test]
fn ties_and_odd_pieces_equal_the_package() {
    check("crafted.json", 5);
}

fn check(fixture: &str, count: usize) {
    let fixture = json(fixture);
    let texts = strings(&fixture["texts"]);
    let models = fixture["models"].as_object().unwrap();
    assert_eq!(models.len(), count);
    for (name, expected) in models {
        let model = load(name);
        assert_eq!(model.vocab_size() as u64, expected["size"].as_u64().unwrap());
        let special = [Some(model.unk_id()), model.bos_id(), model.eos_id(), model.pad_id()];
        let special = special.map(|id| id.map_or(-1, i64::from));
        assert_eq!(serde_json::json!(special), expected["special"], "{name}");

        let rows = expected["encode"].as_array().unwrap();
        assert_eq!(rows.len(), texts.len());
        for (text, row) in texts.iter().zip(rows) {
            let ids_found = model.encode(text).unwrap();
            let pieces = model.encode_pieces(text).unwrap();
            assert_eq!(ids_found, ids(&row[0]), "{name}: ids of {text:?}");
            assert_eq!(pieces.join(" "), row[1].as_str().unwrap(), "{name}: pieces of {text:?}");
            assert_eq!(
                model.decode(&ids_found).unwrap(),
                row[2].as_str().unwrap(),
                "{name}: {text:?}"
            );
        }
        for row in expected["decode"].as_array().unwrap() {
            assert_eq!(
                model.decode(&ids(&row[0])).unwrap(),
                row[1].as_str().unwrap(),
                "{name}: {row}"
            );
        }
    }
}

#[test]
fn pieces_and_ids_lead_to_each_other() {
    let model = load("tiny-unigram-symbols");
    for id in 0..model.vocab_size() as u32 {
        assert_eq!(model.piece_id(model.piece(id).unwrap()), Some(id));
    }
    assert_eq!(model.piece(model.vocab_size() as u32), None);
    assert_eq!(model.piece_id("no such piece"), None);
    assert!(model.is_control(model.piece_id("<2fr>").unwrap()));
    assert!(!model.is_control(model.unk_id()) && !model.is_control(u32::MAX));
}

#[test]
fn a_megabyte_word_and_line_are_encoded_whole() {
    for name in ["tiny-bpe-bytes", "tiny-unigram-nfkc", "source"] {
        let model = load(name);
        for text in ["a".repeat(1 << 20), "été ".repeat(1 << 18), "日".repeat(1 << 18)] {
            let decoded = model.decode(&model.encode(&text).unwrap()).unwrap();
            if name == "tiny-bpe-bytes" {
                assert_eq!(decoded, text.trim_end());
            } else {
                assert_eq!(decoded.contains('\u{2047}'), text.starts_with('日'));
            }
        }
    }
}

#[test]
fn what_cannot_be_decoded_is_an_error() {
    let model = load("tiny-bpe-bytes");
    let error = model.decode(&[5, 1_000_000]).unwrap_err();
    assert!(matches!(error, Error::UnknownId { id: 1_000_000, .. }), "{error}");
}

#[test]
fn broken_files_say_what_is_wrong() {
    let fault = |bytes: &[u8]| SentencePiece::from_bytes(bytes, "x.spm").unwrap_err().to_string();
    let whole = std::fs::read(golden("tiny-bpe-bytes.spm")).unwrap();
    assert_eq!(
        fault(&whole[..whole.len() - 1]),
        "x.spm is not a usable SentencePiece file: a field announces more bytes than the file has"
    );
    assert!(fault(b"").ends_with("no piece stands for the unknown"));
    assert!(fault(b"{\"a\": 1}").starts_with("x.spm is not a usable SentencePiece file"));
    // The same file without its trainer's settings: bytes, but no byte fallback.
    let piece = |text: &str, kind: u8| {
        let mut message = vec![0x0a, text.len() as u8];
        message.extend(text.bytes());
        message.extend([0x18, kind]);
        [vec![0x0a, message.len() as u8], message].concat()
    };
    let unk = piece("<unk>", 2);
    assert!(fault(&[&unk[..], &piece("<0x41>", 6)].concat()).contains("byte_fallback is off"));
    assert!(fault(&[&unk[..], &unk].concat()).contains("piece 1 (\"<unk>\") is there twice"));
    assert!(fault(&[&unk[..], &piece("?", 2)].concat()).contains("second unknown"));
    assert!(fault(&[&unk[..], &piece("", 1)].concat()).contains("piece 1 is empty"));
    let byte_fallback = [0x12, 3, 0x98, 0x02, 1];
    assert!(fault(&[&unk[..], &byte_fallback].concat()).contains("piece <0x00> is absent"));
    let word_model = [0x12, 2, 0x18, 3];
    assert!(fault(&[&unk[..], &word_model].concat()).contains("model type is word"));
}
