//! The file of a shortlist: what is written is read, what is not whole or not of this model is
//! refused.

use std::path::Path;

use proptest::prelude::*;
use tfm_text::{Error, Shortlist, ShortlistLearner, ShortlistOptions, Tokenizer};

#[path = "../../../fuzz/entries/shortlist.rs"]
mod entry;

fn tokenizer() -> Tokenizer {
    Tokenizer::from_dir(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../tfm/models/marian-tatoeba-en-fr"),
    )
    .unwrap()
}

/// Sentences that repeat, so that there is something to learn.
fn pairs() -> Vec<(String, String)> {
    let pairs = [
        ("the cat", "le chat"),
        ("the dog", "le chien"),
        ("a cat", "un chat"),
        ("a dog", "un chien"),
        ("the house", "la maison"),
        ("a house", "une maison"),
    ];
    pairs.iter().cycle().take(60).map(|(s, t)| (s.to_string(), t.to_string())).collect()
}

fn learnt(threads: usize) -> Shortlist {
    let tokenizer = tokenizer();
    let options = ShortlistOptions { best: 2, frequent: 3, threads, ..ShortlistOptions::default() };
    let mut learner = ShortlistLearner::new(&tokenizer, options).unwrap();
    learner.add(&pairs()).unwrap();
    learner.add(&[("  ".into(), "vide".into()), ("word ".repeat(300), "mot".into())]).unwrap();
    assert_eq!((learner.pairs(), learner.skipped()), (60, 1));
    learner.learn(|_| ()).unwrap()
}

#[test]
fn translations_are_learnt_with_any_number_of_threads() {
    let (tokenizer, shortlist) = (tokenizer(), learnt(1));
    assert_eq!(learnt(3), shortlist);
    assert_eq!(shortlist.frequent().len(), 3);
    let eos = tokenizer.eos_id().unwrap();
    for (source, target) in [("cat", "chat"), ("dog", "chien"), ("house", "maison")] {
        let source = tokenizer.encode_source(source).unwrap();
        let expected = tokenizer.encode_target(target).unwrap();
        let found = shortlist.tokens(&source, &[eos]);
        assert!(found.is_sorted_by(|a, b| a < b));
        assert!(expected.iter().all(|token| found.binary_search(token).is_ok()), "{target}");
        assert!(found.len() <= 3 + 1 + 2 * source.len());
    }
    assert!(shortlist.tokens(&[u32::MAX, eos], &[]).len() == 3, "what is unknown has no list");
}

#[test]
fn what_is_written_is_read() {
    let shortlist = learnt(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lists.bin");
    shortlist.write(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    let read = Shortlist::read(&path).unwrap();
    assert_eq!(read.to_bytes(), shortlist.to_bytes());
    assert_eq!(read.name(), path.display().to_string());
    read.check(&tokenizer()).unwrap();
    assert!(matches!(shortlist.write(folder.path()), Err(Error::Files(_))));
    let absent = Shortlist::read(&folder.path().join("absent"));
    assert!(absent.unwrap_err().to_string().contains("absent"));
}

#[test]
fn another_models_shortlist_is_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-bpe-bytes.spm");
    let spm = std::fs::read(golden).unwrap();
    let other = |vocab: &str| {
        let files =
            [("source.spm", &spm[..]), ("target.spm", &spm), ("vocab.json", vocab.as_bytes())];
        Tokenizer::from_files(&tfm_text::Files::Memory(&files)).unwrap()
    };
    let first = other(r#"{"</s>": 0, "<unk>": 1, "a": 2, "b": 3, "<pad>": 4}"#);
    let second = other(r#"{"</s>": 0, "<unk>": 1, "b": 2, "a": 3, "<pad>": 4}"#);
    let lists = Shortlist::new(&first, vec![0], vec![vec![4, 2, 2]; 5]).unwrap();
    assert_eq!(lists.of(1), [2, 4]);
    lists.check(&first).unwrap();
    let same_size = lists.check(&second).unwrap_err().to_string();
    assert!(same_size.contains("but not the same ones"), "{same_size}");
    let other_size = lists.check(&tokenizer()).unwrap_err().to_string();
    assert!(other_size.contains("it is for 5 source and 5 target tokens"), "{other_size}");
    assert!(other_size.contains("`tfm shortlist`"), "{other_size}");
    assert!(matches!(
        Shortlist::new(&first, vec![5], vec![vec![]; 5]),
        Err(Error::UnknownId { id: 5, size: 5 })
    ));
    assert!(matches!(Shortlist::new(&first, vec![], vec![vec![]; 4]), Err(Error::Option { .. })));
}

/// Bytes of a shortlist with another content and a hash that fits it.
fn with_hash(mut bytes: Vec<u8>) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    bytes.truncate(bytes.len() - 32);
    let hash = Sha256::digest(&bytes);
    bytes.extend(hash);
    bytes
}

#[test]
fn faults_are_named() {
    let bytes = learnt(1).to_bytes();
    let fault = |bytes: &[u8]| match Shortlist::from_bytes(bytes, "lists.bin") {
        Err(error @ Error::Malformed { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let end = bytes.len() - 32;
    let (first, lengths) = (60, 60 + 4 * 3);
    let cases = [
        (b"PK".to_vec(), "does not begin as one"),
        (bytes[..30].to_vec(), "it ends after 30 bytes"),
        (changed(8, &[2]), "its version is 2"),
        (bytes[..bytes.len() - 1].to_vec(), "it is shorter than"),
        ([&bytes[..], b"x"].concat(), "it is longer than"),
        (changed(20, &[255; 8]), "it is shorter than"),
        (changed(end - 1, &[7]), "it is damaged"),
        (with_hash(changed(end - 4, &[255; 4])), "token 4294967295 of 4000 target tokens"),
        (with_hash(changed(first, &[255; 4])), "not in ascending order"),
        (with_hash(changed(lengths, &[255; 4])), "ends after the lists"),
        (with_hash(changed(lengths, &[1])), "ends after the lists"),
    ];
    for (bytes, expected) in cases {
        let found = fault(&bytes);
        assert!(found.contains(expected), "{found}");
        assert!(found.starts_with("lists.bin is not a usable shortlist file: "), "{found}");
        assert!(found.ends_with("write it again with `tfm shortlist`"), "{found}");
    }
}

proptest! {
    #[test]
    fn damage_is_an_error_or_a_shortlist(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..8),
        cut in any::<prop::sample::Index>(),
        hashed in any::<bool>(),
    ) {
        let seed = include_bytes!("../../../fuzz/corpus/shortlist/small");
        let mut damaged = seed.to_vec();
        let at = at.index(damaged.len());
        let end = (at + bytes.len()).min(damaged.len());
        damaged.splice(at..end, bytes);
        damaged.truncate(32 + cut.index(2 * damaged.len()));
        if hashed && damaged.len() >= 32 {
            damaged = with_hash(damaged);
        }
        entry::run(&damaged);
        entry::run(seed);
    }
}
