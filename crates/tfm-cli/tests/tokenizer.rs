//! `tfm tokenizer train`: text in, a whole folder out, or a clear error and nothing.

mod command;

use command::{argument, run};
use flate2::{Compression, write::GzEncoder};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tfm_text::Tokenizer;

const PAIRS: &str = "the cat\tle chat\nthe dog\tle chien\tmore\nthe cats\tles chats\n";

fn write_gz(path: &Path, text: &str) {
    let mut file = GzEncoder::new(File::create(path).unwrap(), Compression::default());
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap();
}

#[test]
fn columns_of_an_archive_make_a_joint_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("pairs.tsv.gz"), folder.path().join("a/b"));
    write_gz(&input, PAIRS);
    for kind in ["unigram", "bpe"] {
        let arguments =
            ["tokenizer", "train", "--input", argument(&input), "--tsv", "--kind", kind];
        let more = ["--vocabulary", "24", "--character-coverage", "1", "--output"];
        let arguments = [&arguments[..], &more, &[argument(&output)]].concat();
        assert_eq!(run(&arguments, b"").success(), "");
        let tokenizer = Tokenizer::from_dir(&output).unwrap();
        assert_eq!(tokenizer.source_vocab_size(), 25, "<pad> is one more");
        let ids = tokenizer.encode_source("les dogs").unwrap();
        assert!(!ids.contains(&tokenizer.unk_id().unwrap()));
        assert_eq!(tokenizer.decode_target(&ids).unwrap(), "les dogs");
        // The third column is no text: nothing has an m.
        let ids = tokenizer.encode_source("m").unwrap();
        assert!(ids.contains(&tokenizer.unk_id().unwrap()));
    }
}

#[test]
fn two_files_make_two_vocabularies() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target, output] = ["source", "target", "out"].map(|name| folder.path().join(name));
    fs::write(&source, "abba baab\n").unwrap();
    fs::write(&target, format!("xyyx yxxy\n{}\n", "y".repeat(5000))).unwrap();
    let arguments = [
        "tokenizer",
        "train",
        "--source",
        argument(&source),
        "--target",
        argument(&target),
        "--separate",
        "--vocabulary",
        "5",
        "--output",
        argument(&output),
    ];
    let outcome = run(&arguments, b"");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(
        outcome.stderr.contains("target: sentences longer than --longest-sentence, left out: 1"),
        "{outcome:?}"
    );
    let tokenizer = Tokenizer::from_dir(&output).unwrap();
    assert!(tokenizer.encode_source("x").unwrap().contains(&1));
    assert!(!tokenizer.encode_target("x").unwrap().contains(&1));
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let [text, broken, output] = ["text", "broken.gz", "out"].map(|name| folder.path().join(name));
    fs::write(&text, "abc\n").unwrap();
    fs::write(&broken, b"\x1f\x8b\x08abc").unwrap();
    let absent = folder.path().join("absent");
    for (status, input, more, expected) in [
        (1, &absent, &[][..], "cannot read "),
        (1, &broken, &[], "broken.gz, line 1: "),
        (1, &text, &["--tsv"], "line 1: no column 2"),
        (1, &text, &["--vocabulary", "4"], "4 is too small"),
        (1, &text, &["--vocabulary", "5000"], "at most "),
        (2, &text, &["--separate"], "--separate needs two languages"),
        (2, &text, &["--character-coverage", "2"], "character_coverage: 2 is not in (0, 1]"),
        (2, &text, &["--symbol", "a b"], "symbols: "),
        (2, &text, &["--source", "x"], "cannot be used with"),
    ] {
        let usual =
            ["tokenizer", "train", "--input", argument(input), "--output", argument(&output)];
        let (results, message) = run(&[&usual[..], more].concat(), b"").failure(status);
        assert_eq!(results, "");
        assert!(message.contains(expected), "{more:?}: {message}");
        assert!(!output.exists());
    }
    let usual = ["tokenizer", "train", "--input", argument(&text), "--output", argument(&text)];
    run(&usual, b"").failure(1);
    assert_eq!(fs::read(&text).unwrap(), b"abc\n");
}
