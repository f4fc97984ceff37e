//! `tokenizer.json` read as the `tokenizers` package reads it.

mod support;

use support::{ids, json, strings};
use tfm_text::{Affixes, Files, Tokenizer};

const CONFIG: &[u8] =
    br#"{"eos_token": "</s>", "unk_token": {"content": "<unk>"}, "pad_token": "<pad>"}"#;

#[test]
fn equal_to_the_package() {
    let fixture = json("tokenizer_json.json");
    let file = fixture["file"].to_string();
    let files = [("tokenizer.json", file.as_bytes()), ("tokenizer_config.json", CONFIG)];
    let tokenizer = Tokenizer::from_files(&Files::Memory(&files)).unwrap();
    let texts = strings(&fixture["texts"]);
    let rows = fixture["rows"].as_array().unwrap();
    assert_eq!(rows.len(), texts.len());
    let around = Affixes { before: vec![0], after: vec![2] };
    assert_eq!(tokenizer.framing().source, around);
    for (text, row) in texts.iter().zip(rows) {
        let found = tokenizer.encode_source(text).unwrap();
        assert_eq!(found, ids(&row[1]), "{text:?}");
        let bare = [&around.before, &ids(&row[0])[..], &around.after].concat();
        assert_eq!(found, bare, "{text:?}");
        assert_eq!(tokenizer.encode_target(text).unwrap(), found, "{text:?}");
        let decoded = tokenizer.decode_target(&found).unwrap();
        assert_eq!(decoded, row[2].as_str().unwrap(), "{text:?}");
    }
    let mut words = 0;
    for row in rows {
        // Where decoding leaves nothing out, the words are what it puts spaces between.
        let (ids, decoded) = (ids(&row[1]), row[2].as_str().unwrap());
        if !ids.contains(&3) {
            let found = tokenizer.target_words(&ids);
            let found: Vec<&str> = found.iter().map(|word| word.text.as_str()).collect();
            words += found.len();
            assert_eq!(found, decoded.split_whitespace().collect::<Vec<_>>(), "{decoded:?}");
        }
    }
    assert!(words >= 20, "only {words} words");
    assert_eq!((tokenizer.eos_id(), tokenizer.unk_id()), (Some(2), Some(3)));
    assert_eq!((tokenizer.pad_id(), tokenizer.bos_id()), (Some(1), None));
    assert_eq!(tokenizer.source_token(2).as_deref(), Some("</s>"));
    assert_eq!((tokenizer.target_vocab_size(), tokenizer.target_token(500)), (500, None));
}

/// The file of a word-level tokeniser with this template around a text.
fn word_level(template: &[&str]) -> String {
    let pieces: Vec<String> = template
        .iter()
        .map(|piece| match *piece {
            "A" => r#"{"Sequence": {"id": "A", "type_id": 0}}"#.to_owned(),
            token => format!(r#"{{"SpecialToken": {{"id": "{token}", "type_id": 0}}}}"#),
        })
        .collect();
    let template = pieces.join(", ");
    format!(
        r#"{{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {{"type": "Whitespace"}}, "decoder": null,
        "post_processor": {{
            "type": "TemplateProcessing", "single": [{template}], "pair": [{template}],
            "special_tokens": {{
                "<s>": {{"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
                "</s>": {{"id": "</s>", "ids": [2], "tokens": ["</s>"]}}
            }}
        }},
        "model": {{
            "type": "WordLevel", "unk_token": "<unk>",
            "vocab": {{"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4}}
        }}
    }}"#
    )
}

#[test]
fn a_target_does_not_begin_with_what_the_decoder_begins_with() {
    let file = word_level(&["<s>", "A", "</s>"]);
    let files = [("tokenizer.json", file.as_bytes())];
    let tokenizer = Tokenizer::from_files(&Files::Memory(&files)).unwrap();
    let both = [tokenizer.encode_source("a b").unwrap(), tokenizer.encode_target("a b").unwrap()];
    assert_eq!(both, [[1, 3, 4, 2], [1, 3, 4, 2]]);
    // As BART, whose decoder begins with `</s>` and writes `<s>` first.
    let other = tokenizer.clone().with_decoder_start(2);
    assert_eq!(other.encode_target("a b").unwrap(), [1, 3, 4, 2]);
    let own = tokenizer.with_decoder_start(1);
    assert_eq!(own.encode_source("a b").unwrap(), [1, 3, 4, 2]);
    assert_eq!(own.encode_target("a b").unwrap(), [3, 4, 2]);
}

#[test]
fn a_template_without_the_text_is_named() {
    let file = word_level(&["<s>", "</s>"]);
    let files = [("tokenizer.json", file.as_bytes())];
    let error = Tokenizer::from_files(&Files::Memory(&files)).unwrap_err().to_string();
    assert!(error.ends_with("its post-processor does not have the text once"), "{error}");
}

#[test]
fn broken_files_are_named() {
    let fault = |file: &[u8]| {
        Tokenizer::from_files(&Files::Memory(&[("tokenizer.json", file)])).unwrap_err().to_string()
    };
    assert!(fault(b"{").starts_with("tokenizer.json is not a usable tokenizer.json file: "));
    assert!(fault(b"{}").starts_with("tokenizer.json is not a usable tokenizer.json file: "));
    let fixture = json("tokenizer_json.json")["file"].to_string();
    let files = [
        ("tokenizer.json", fixture.as_bytes()),
        ("tokenizer_config.json", &b"{\"eos_token\": 1}"[..]),
    ];
    let config = Tokenizer::from_files(&Files::Memory(&files)).unwrap_err().to_string();
    assert!(config.starts_with("tokenizer_config.json is not a usable"), "{config}");
}

#[test]
fn each_token_of_a_word_level_vocabulary_is_a_word() {
    let file = word_level(&["<s>", "A", "</s>"]);
    let files = [("tokenizer.json", file.as_bytes()), ("tokenizer_config.json", CONFIG)];
    let tokenizer = Tokenizer::from_files(&Files::Memory(&files)).unwrap();
    let ids = tokenizer.encode_source("a zzz b").unwrap();
    assert_eq!(ids, [1, 3, 0, 4, 2]);
    let words = tokenizer.source_words(&ids).into_iter();
    let words: Vec<_> = words.map(|word| (word.text, word.tokens)).collect();
    let word = |text: &str, token| (text.to_owned(), vec![token]);
    assert_eq!(words, [word("a", 1), word("<unk>", 2), word("b", 3)]);
}

/// As in the files of some T5 models, whose list of added tokens is empty.
#[test]
fn the_end_is_no_text_where_only_the_configuration_names_it() {
    let file = word_level(&["A", "</s>"]);
    let files = [("tokenizer.json", file.as_bytes()), ("tokenizer_config.json", CONFIG)];
    let tokenizer = Tokenizer::from_files(&Files::Memory(&files)).unwrap();
    assert_eq!(tokenizer.decode_target(&[3, 4, 2]).unwrap(), "a b");
    assert_eq!(tokenizer.decode_target(&[2]).unwrap(), "");
}
