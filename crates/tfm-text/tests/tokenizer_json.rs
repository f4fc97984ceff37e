//! `tokenizer.json` read as the `tokenizers` package reads it.

mod support;

use support::{ids, json, strings};
use tfm_text::{Files, Tokenizer, TokenizerJson};

const CONFIG: &[u8] =
    br#"{"eos_token": "</s>", "unk_token": {"content": "<unk>"}, "pad_token": "<pad>"}"#;

#[test]
fn equal_to_the_package() {
    let fixture = json("tokenizer_json.json");
    let file = fixture["file"].to_string();
    let files = [("tokenizer.json", file.as_bytes()), ("tokenizer_config.json", CONFIG)];
    let tokenizer = TokenizerJson::from_files(&Files::Memory(&files)).unwrap();
    let texts = strings(&fixture["texts"]);
    let rows = fixture["rows"].as_array().unwrap();
    assert_eq!(rows.len(), texts.len());
    for (text, row) in texts.iter().zip(rows) {
        assert_eq!(tokenizer.encode(text, false).unwrap(), ids(&row[0]), "{text:?}");
        let special = tokenizer.encode(text, true).unwrap();
        assert_eq!(special, ids(&row[1]), "{text:?}");
        assert_eq!(tokenizer.decode(&special, true).unwrap(), row[2].as_str().unwrap(), "{text:?}");
        assert_eq!(
            tokenizer.decode(&special, false).unwrap(),
            row[3].as_str().unwrap(),
            "{text:?}"
        );
    }

    let united = Tokenizer::from_files(&Files::Memory(&files)).unwrap();
    assert_eq!(united.encode_source(&texts[9]).unwrap(), ids(&rows[9][1]));
    assert_eq!(united.decode_target(&ids(&rows[9][1])).unwrap(), rows[9][2].as_str().unwrap());
    assert_eq!((united.eos_id(), united.unk_id()), (Some(2), Some(3)));
    assert_eq!((united.pad_id(), united.bos_id()), (Some(1), None));
    assert_eq!(united.source_token(2).as_deref(), Some("</s>"));
    assert_eq!((united.target_vocab_size(), united.target_token(500)), (500, None));
}

#[test]
fn broken_files_are_named() {
    let fault = |file: &[u8]| {
        TokenizerJson::from_files(&Files::Memory(&[("tokenizer.json", file)]))
            .unwrap_err()
            .to_string()
    };
    assert!(fault(b"{").starts_with("tokenizer.json is not a usable tokenizer.json file: "));
    assert!(fault(b"{}").starts_with("tokenizer.json is not a usable tokenizer.json file: "));
    let missing = TokenizerJson::from_files(&Files::Memory(&[])).unwrap_err().to_string();
    assert!(missing.starts_with("tokenizer.json is missing: "));
    let fixture = json("tokenizer_json.json")["file"].to_string();
    let files = [
        ("tokenizer.json", fixture.as_bytes()),
        ("tokenizer_config.json", &b"{\"eos_token\": 1}"[..]),
    ];
    let config = TokenizerJson::from_files(&Files::Memory(&files)).unwrap_err().to_string();
    assert!(config.starts_with("tokenizer_config.json is not a usable"), "{config}");
}
