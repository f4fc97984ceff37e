//! Learned models: of the size asked for, the same each time, and read alike by this crate and by
//! the Python packages.

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use support::{golden, ids, json, strings};
use tfm_text::training::{
    Kind, Options, SpecialIds, TrainedModel, Trainer, Vocabularies, train, write_marian,
};
use tfm_text::{Error, Files, SentencePiece, Tokenizer};

const KINDS: [Kind; 2] = [Kind::Unigram, Kind::Bpe];

fn text() -> String {
    std::fs::read_to_string(golden("learnt.txt")).unwrap()
}

/// The recipes of `make_golden.py`.
fn recipe(name: &str) -> Options {
    let (kind, symbols) = match name {
        "learnt-unigram" => (Kind::Unigram, vec!["<sep>".into(), "foo".into()]),
        _ => (Kind::Bpe, Vec::new()),
    };
    Options {
        character_coverage: 0.999,
        special: SpecialIds::marian(),
        symbols,
        ..Options::new(kind, 400)
    }
}

#[test]
fn the_files_are_read_alike_by_the_packages() {
    let fixture = json("learnt.json");
    let texts = strings(&fixture["texts"]);
    for (name, expected) in fixture["models"].as_object().unwrap() {
        let folder = Files::Folder(golden(name));
        let spm = folder.read("source.spm").unwrap().unwrap().into_owned();
        let spm = SentencePiece::from_bytes(&spm, name).unwrap();
        let marian = Tokenizer::from_files(&folder).unwrap();
        let file = folder.read("tokenizer.json").unwrap().unwrap();
        let fast = Tokenizer::from_files(&Files::Memory(&[("tokenizer.json", &file)])).unwrap();
        let rows = expected["encode"].as_array().unwrap();
        assert_eq!((spm.vocab_size(), rows.len()), (400, texts.len()));
        for (i, text) in texts.iter().enumerate() {
            let found = spm.encode(text).unwrap();
            assert_eq!(found, ids(&rows[i][0]), "{name}: {text:?}");
            assert_eq!(spm.decode(&found).unwrap(), rows[i][2].as_str().unwrap(), "{name}");
            let found = marian.encode_source(text).unwrap();
            assert_eq!(found, ids(&expected["marian"][i]), "{name}: {text:?}");
            let by_json = fast.encode_source(text).unwrap();
            assert_eq!(by_json, ids(&expected["fast"][i]), "{name}: {text:?}");
            // Marian alone takes `>>code<<` for the name of a language.
            assert!(found == by_json || text.contains("<<"), "{name}: {text:?}");
        }
    }
}

#[test]
fn learning_again_gives_the_same_pieces() {
    for name in ["learnt-unigram", "learnt-bpe"] {
        let model = train(recipe(name), text().lines()).unwrap();
        let file = std::fs::read(golden(name).join("source.spm")).unwrap();
        let file = SentencePiece::from_bytes(&file, name).unwrap();
        let before: BTreeSet<&str> = (0..400).map(|id| file.piece(id).unwrap()).collect();
        let again: BTreeSet<&str> = model.pieces().map(|(piece, _)| piece).collect();
        assert_eq!(again, before, "{name}");
        assert_eq!(model.to_bytes(), train(recipe(name), text().lines()).unwrap().to_bytes());
    }
}

#[test]
fn unigram_scores_are_log_probabilities_and_bpe_scores_ranks() {
    let unigram = train(recipe("learnt-unigram"), text().lines()).unwrap();
    let learnt = unigram.pieces().filter(|(_, score)| *score < 0.0);
    let total: f32 = learnt.map(|(_, score)| score.exp()).sum();
    // The digamma takes a little from each.
    assert!((0.9..1.0).contains(&total), "{total}");
    let bpe = train(recipe("learnt-bpe"), text().lines()).unwrap();
    for (rank, (_, score)) in bpe.pieces().skip(2).enumerate() {
        assert_eq!(score, -(rank as f32));
    }
}

#[test]
fn every_sentence_of_the_text_comes_back() {
    for kind in KINDS {
        let options = Options { character_coverage: 1.0, ..Options::new(kind, 300) };
        let model = train(options, text().lines()).unwrap().load().unwrap();
        for line in text().lines() {
            let ids = model.encode(line).unwrap();
            assert!(!ids.contains(&model.unk_id()), "{line}");
            let spaced: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(model.decode(&ids).unwrap(), spaced.join(" "));
        }
    }
}

#[test]
fn the_smallest_vocabulary_is_a_model_of_characters() {
    for kind in KINDS {
        let digits = ["1 2 3", "3 2 1 0", "0 0 12"];
        let model = train(Options::new(kind, 3 + 5), digits).unwrap();
        assert_eq!(model.vocab_size(), 8);
        let model = model.load().unwrap();
        assert_eq!((model.unk_id(), model.bos_id(), model.eos_id()), (0, Some(1), Some(2)));
        assert_eq!(model.encode_pieces("12 30").unwrap(), ["▁", "1", "2", "▁", "3", "0"]);

        let error = train(Options::new(kind, 7), digits).unwrap_err().to_string();
        assert!(error.contains("7 is too small: 5 characters, 0 symbols and 3 special"), "{error}");
        assert!(error.contains("need 8"), "{error}");
    }
}

#[test]
fn the_largest_vocabulary_is_told_and_can_be_had() {
    for kind in KINDS {
        let asked = Options::new(kind, 100_000);
        let Err(Error::VocabularyTooLarge { most, .. }) = train(asked, text().lines()) else {
            panic!("{kind:?} learned more than there is");
        };
        assert!(most > 1000, "{most}");
        let model = train(Options::new(kind, most), text().lines()).unwrap();
        assert_eq!(model.vocab_size(), most);
        let one_more = train(Options::new(kind, most + 1), text().lines()).unwrap_err();
        assert!(one_more.to_string().contains(&format!("at most {most}")), "{one_more}");
    }
}

#[test]
fn rare_characters_are_unknown_and_special_ids_are_where_they_should_be() {
    for kind in KINDS {
        let sentences = std::iter::repeat_n("aaaa bbbb", 500).chain(["ж\0"]);
        let options = Options {
            symbols: vec!["<sep>".into()],
            special: SpecialIds { unk: 3, bos: None, eos: Some(0), pad: Some(9) },
            ..Options::new(kind, 10)
        };
        let model = train(options, sentences).unwrap();
        let pieces: Vec<&str> = model.pieces().map(|(piece, _)| piece).collect();
        assert_eq!(
            (pieces[0], pieces[1], pieces[3], pieces[9]),
            ("</s>", "<sep>", "<unk>", "<pad>")
        );
        let model = model.load().unwrap();
        assert_eq!((model.eos_id(), model.pad_id(), model.bos_id()), (Some(0), Some(9), None));
        assert_eq!(model.encode_pieces("ж<sep>").unwrap(), ["▁", "ж", "<sep>"]);
    }
}

#[test]
fn sentences_too_long_are_counted_and_nothing_is_an_error() {
    let long = "x".repeat(10 << 20);
    let mut trainer = Trainer::new(Options::new(Kind::Bpe, 10)).unwrap();
    for sentence in ["", "   ", &long] {
        trainer.add(sentence).unwrap();
    }
    assert_eq!((trainer.sentences(), trainer.skipped()), (2, 1));
    let error = trainer.train(|_| {}).unwrap_err();
    assert!(matches!(error, Error::NothingToLearn { skipped: 1 }), "{error}");
}

#[test]
fn options_that_make_no_sense_are_named() {
    let usual = || Options::new(Kind::Unigram, 100);
    for (name, options) in [
        ("character_coverage", Options { character_coverage: 0.0, ..usual() }),
        ("character_coverage", Options { character_coverage: f64::NAN, ..usual() }),
        ("symbols", Options { symbols: vec!["a b".into()], ..usual() }),
        ("symbols", Options { symbols: vec!["</s>".into()], ..usual() }),
        ("symbols", Options { symbols: vec!["x".into(), "x".into()], ..usual() }),
        ("special", Options { special: SpecialIds { unk: 1, ..Default::default() }, ..usual() }),
        ("special", Options { special: SpecialIds { unk: 100, ..Default::default() }, ..usual() }),
        ("vocabulary", Options::new(Kind::Unigram, usize::MAX)),
    ] {
        let error = Trainer::new(options).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

/// The names of a folder's files.
fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let model = |text: &str| -> TrainedModel {
        let options = Options { special: SpecialIds::marian(), ..Options::new(Kind::Bpe, 8) };
        train(options, [text]).unwrap()
    };
    let (one, two) = (model("ab ab cd"), model("xyx yxy zz"));
    write_marian(folder.path(), Vocabularies::Joint(&one)).unwrap();
    let joint =
        ["source.spm", "target.spm", "tokenizer.json", "tokenizer_config.json", "vocab.json"];
    assert_eq!(names(folder.path()), joint);
    let both = Vocabularies::Separate { source: &one, target: &two };
    write_marian(folder.path(), both).unwrap();
    // The file of the joint vocabulary would be wrong now.
    let separate =
        ["source.spm", "target.spm", "target_vocab.json", "tokenizer_config.json", "vocab.json"];
    assert_eq!(names(folder.path()), separate);
    let tokenizer = Tokenizer::from_dir(folder.path()).unwrap();
    let special = [tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.pad_id()];
    assert_eq!(special, [Some(0), Some(1), Some(8)]);
    let ids = tokenizer.encode_target("xyx zz").unwrap();
    assert_eq!(tokenizer.decode_target(&ids).unwrap(), "xyx zz");
    assert!(tokenizer.encode_source("xyx").unwrap().contains(&1));

    // A name that is taken by a folder: the others are as they were.
    let taken = tempfile::tempdir().unwrap();
    std::fs::create_dir(taken.path().join("vocab.json")).unwrap();
    let error = write_marian(taken.path(), Vocabularies::Joint(&one)).unwrap_err().to_string();
    assert!(error.starts_with("cannot write ") && error.contains("vocab.json"), "{error}");
    assert_eq!(names(taken.path()), ["vocab.json"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_learned_or_an_error(
        sentences in prop::collection::vec("[ab▁ é\u{301}1日\0<]{0,12}|\\PC{0,10}", 0..30),
        room in 0usize..40,
        coverage in 0.5..=1.0f64,
    ) {
        for kind in KINDS {
            let options =
                |size| Options { character_coverage: coverage, ..Options::new(kind, size) };
            let size = match train(options(3), &sentences) {
                Ok(_) => unreachable!("there is no room for a character"),
                Err(Error::NothingToLearn { .. }) => return Ok(()),
                Err(Error::VocabularyTooSmall { characters, .. }) => 3 + characters + room,
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            let (size, model) = match train(options(size), &sentences) {
                Err(Error::VocabularyTooLarge { most, .. }) => {
                    prop_assert!(most < size);
                    (most, train(options(most), &sentences).unwrap())
                }
                other => (size, other.unwrap()),
            };
            prop_assert_eq!(model.vocab_size(), size);
            let loaded = model.load().unwrap();
            for sentence in &sentences {
                let ids = loaded.encode(sentence).unwrap();
                loaded.decode(&ids).unwrap();
            }
            prop_assert_eq!(train(options(size), &sentences).unwrap().to_bytes(), model.to_bytes());
        }
    }
}
