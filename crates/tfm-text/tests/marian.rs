//! Token ids and texts equal to those of `MarianTokenizer` in Hugging Face `transformers`.

mod support;

use serde_json::Value;
use support::{bundled, golden, ids, json, strings};
use tfm_text::{Error, Files, Tokenizer};

/// Loads a tokenizer of the fixture: the bundled one, or one whose files but for the models are in
/// the fixture.
fn load(files: &Value) -> Tokenizer {
    let files = files.as_object().unwrap();
    if files.is_empty() {
        return Tokenizer::from_files(&Files::Folder(bundled())).unwrap();
    }
    let spm = std::fs::read(golden(files["model"].as_str().unwrap())).unwrap();
    let texts: Vec<(&str, String)> =
        files.iter().map(|(n, file)| (n.as_str(), file.to_string())).collect();
    let mut files: Vec<(&str, &[u8])> =
        texts.iter().map(|(n, text)| (*n, text.as_bytes())).collect();
    files.extend([("source.spm", &spm[..]), ("target.spm", &spm[..])]);
    Tokenizer::from_files(&Files::Memory(&files)).unwrap()
}

#[test]
fn equal_to_transformers() {
    let fixture = json("marian.json");
    let texts = strings(&fixture["texts"]);
    let tokenizers = fixture["tokenizers"].as_object().unwrap();
    assert_eq!(tokenizers.keys().collect::<Vec<_>>(), ["bundled", "joint", "separate"]);
    for (name, expected) in tokenizers {
        let tokenizer = load(&expected["files"]);
        let rows = expected["rows"].as_array().unwrap();
        assert_eq!(rows.len(), texts.len());
        for (text, row) in texts.iter().zip(rows) {
            let source = tokenizer.encode_source(text).unwrap();
            assert_eq!(source, ids(&row[0]), "{name}: source {text:?}");
            let target = tokenizer.encode_target(text).unwrap();
            assert_eq!(target, ids(&row[1]), "{name}: target {text:?}");
            let decoded = tokenizer.decode_target(&target).unwrap();
            assert_eq!(decoded, row[2].as_str().unwrap(), "{name}: {text:?}");
        }
        for row in expected["decode"].as_array().unwrap() {
            let decoded = tokenizer.decode_target(&ids(&row[0])).unwrap();
            assert_eq!(decoded, row[1].as_str().unwrap(), "{name}: {row}");
        }
    }
}

#[test]
fn languages_are_looked_up_and_listed() {
    let fixture = json("marian.json");
    let tokenizer = load(&fixture["tokenizers"]["joint"]["files"]);
    assert_eq!(tokenizer.languages().collect::<Vec<_>>(), ["deu", "fra"]);
    for (language, id) in [("fra", 2), (">>deu<<", 3)] {
        assert_eq!(tokenizer.framing_to(language).unwrap().source.before, [id], "{language}");
    }
    assert_eq!(
        tokenizer.framing_to("xyz").unwrap_err().to_string(),
        "language \"xyz\" is not in the vocabulary: use one of deu, fra"
    );

    let bilingual = load(&fixture["tokenizers"]["bundled"]["files"]);
    let error = bilingual.framing_to("fra").unwrap_err().to_string();
    assert!(error.ends_with("translates between two fixed languages and takes no code"), "{error}");
}

#[test]
fn the_language_that_is_asked_for_stands_before_the_text_once() {
    let fixture = json("marian.json");
    let tokenizer = load(&fixture["tokenizers"]["joint"]["files"]);
    let french = tokenizer.framing_to("fra").unwrap();
    let encode = |text| tokenizer.encode_source_framed(text, &french).unwrap();
    let plain = tokenizer.encode_source(" Hello").unwrap();
    assert_eq!(encode(" Hello"), [&[2][..], &plain].concat());
    // A line that says its language keeps it.
    assert_eq!(encode(">>fra<< Hello"), [&[2][..], &plain].concat());
    assert_eq!(encode(">>deu<< Hello"), [&[3][..], &plain].concat());
    // A code that is no language of this model is an unknown token, as in `transformers`.
    let unknown = tokenizer.unk_id().unwrap();
    let found = tokenizer.encode_source(">>xyz<< Hello").unwrap();
    assert_eq!(found, [&[unknown][..], &plain].concat());
}

#[test]
fn one_type_over_all_formats() {
    let tokenizer = Tokenizer::from_dir(&bundled()).unwrap();
    assert_eq!(tokenizer.encode_source("I'm sick.").unwrap(), [5, 3, 26, 1187, 2, 0]);
    assert_eq!(tokenizer.decode_target(&[3999, 12, 71, 1226, 2, 0]).unwrap(), "Je suis malade.");
    assert_eq!(tokenizer.decode_target(&[4_000_000_000, 12]).unwrap(), "Je");
    assert_eq!(
        (tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.pad_id()),
        (Some(0), Some(1), Some(3999))
    );
    assert_eq!((tokenizer.source_vocab_size(), tokenizer.target_vocab_size()), (4000, 4000));
    assert_eq!(tokenizer.source_token(5).as_deref(), Some("▁I"));
    assert_eq!(tokenizer.target_token(4000), None);
    assert!(tokenizer.languages().len() == 0 && tokenizer.bos_id().is_none());

    let spm = std::fs::read(golden("tiny-bpe-bytes.spm")).unwrap();
    let plain = Tokenizer::from_files(&Files::Memory(&[("spiece.model", &spm)])).unwrap();
    let ids = plain.encode_target("Hello.").unwrap();
    assert_eq!(ids.last().copied(), plain.eos_id());
    assert_eq!(plain.decode_target(&ids).unwrap(), "Hello.");
    assert!(matches!(plain.framing_to("fra"), Err(Error::UnknownLanguage { .. })));

    let pegasus: &[(&str, &[u8])] = &[
        ("spiece.model", &spm),
        ("tokenizer_config.json", br#"{"tokenizer_class": "PegasusTokenizer"}"#),
    ];
    let error = Tokenizer::from_files(&Files::Memory(pegasus)).unwrap_err().to_string();
    assert!(error.starts_with("tokenizer.json is missing: PegasusTokenizer"), "{error}");
}

#[test]
fn missing_and_broken_files_are_named() {
    let spm = std::fs::read(golden("tiny-bpe-bytes.spm")).unwrap();
    let fault = |extra: &[(&str, &[u8])]| {
        let mut files: Vec<(&str, &[u8])> = extra.to_vec();
        files.extend([("source.spm", &spm[..]), ("target.spm", &spm[..])]);
        Tokenizer::from_files(&Files::Memory(&files)).unwrap_err().to_string()
    };
    let source_alone: &[(&str, &[u8])] = &[("source.spm", &spm)];
    let error = Tokenizer::from_files(&Files::Memory(source_alone)).unwrap_err().to_string();
    assert!(error.starts_with("target.spm is missing: "), "{error}");
    assert!(fault(&[]).starts_with("vocab.json is missing: "));
    assert!(fault(&[("target.spm", b"x")]).starts_with("target.spm is not a usable SentencePiece"));
    let vocab = ("vocab.json", &br#"{"</s>": 0, "<unk>": 1}"#[..]);
    assert!(
        fault(&[("vocab.json", b"{\"a\": 0}")])
            .contains("the unknown token \"<unk>\" is not in it")
    );
    assert!(
        fault(&[("vocab.json", b"{\"a\"")])
            .starts_with("vocab.json is not a usable vocabulary file")
    );
    let broken = ("tokenizer_config.json", &b"3"[..]);
    assert!(fault(&[vocab, broken]).starts_with("tokenizer_config.json is not a usable"));
    let separate = ("tokenizer_config.json", &br#"{"separate_vocabs": true}"#[..]);
    assert!(fault(&[vocab, separate]).starts_with("target_vocab.json is missing: "));

    let empty = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_dir(empty.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Missing { file, .. } if file.ends_with("source.spm")),
        "{error}"
    );
    std::fs::create_dir(empty.path().join("source.spm")).unwrap();
    let error = Tokenizer::from_dir(empty.path()).unwrap_err();
    assert!(matches!(&error, Error::Io { file, .. } if file.ends_with("source.spm")), "{error}");
}

#[test]
fn texts_are_not_cut_at_random_unnoticed() {
    let folder = bundled();
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let [source, target, vocab] = ["source.spm", "target.spm", "vocab.json"].map(read);
    let load = |config: &str| {
        let files = [
            ("source.spm", &source[..]),
            ("target.spm", &target),
            ("vocab.json", &vocab),
            ("tokenizer_config.json", config.as_bytes()),
        ];
        Tokenizer::from_files(&Files::Memory(&files)).map(|_| ())
    };
    load(r#"{"sp_model_kwargs": {"enable_sampling": false}}"#).unwrap();
    load(r#"{"sp_model_kwargs": null}"#).unwrap();
    let fault = load(r#"{"sp_model_kwargs": {"enable_sampling": true, "alpha": 0.1}}"#);
    let fault = fault.unwrap_err().to_string();
    assert!(fault.starts_with("tokenizer_config.json"), "{fault}");
    assert!(fault.contains("`sp_model_kwargs.enable_sampling` is true"), "{fault}");
}
