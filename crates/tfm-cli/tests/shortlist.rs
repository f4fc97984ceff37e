//! `tfm shortlist` and `--shortlist`: parallel text in, a file out, translations among its tokens,
//! or a clear error.

mod command;

use command::{CAT, THANKS, argument, golden, run};
use std::fs;
use std::path::{Path, PathBuf};

/// Parallel sentences that hold the translations of the goldens among others.
fn write_pairs(folder: &Path) -> [PathBuf; 3] {
    let pairs = [
        (CAT, golden(CAT, "beam4")),
        (THANKS, golden(THANKS, "beam4")),
        ("The dog is black.", "Le chien est noir.".into()),
        ("Thank you.", "Merci.".into()),
        ("My help is needed.", "On a besoin de mon aide.".into()),
    ];
    let names = ["source.en", "target.fr", "pairs.tsv"];
    let paths = names.map(|name| folder.join(name));
    let lines = |line: &dyn Fn(&(&str, String)) -> String| -> String {
        pairs.iter().cycle().take(40).map(line).collect()
    };
    fs::write(&paths[0], lines(&|(source, _)| format!("{source}\n"))).unwrap();
    fs::write(&paths[1], lines(&|(_, target)| format!("{target}\n"))).unwrap();
    fs::write(&paths[2], lines(&|(s, t)| format!("{s}\t{t}\tmore\n"))).unwrap();
    paths
}

#[test]
fn what_is_learnt_is_translated_with() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target, tsv] = write_pairs(folder.path());
    let [lists, same] = ["lists.bin", "same.bin"].map(|name| folder.path().join(name));
    let arguments = ["shortlist", "--source", argument(&source), "--target", argument(&target)];
    let arguments = [&arguments[..], &["--threads", "2", "--output", argument(&lists)]].concat();
    assert_eq!(run(&arguments, b"").success(), "");
    let arguments = ["shortlist", "--tsv", argument(&tsv), "--output", argument(&same)];
    assert_eq!(run(&arguments, b"").success(), "");
    assert_eq!(fs::read(&lists).unwrap(), fs::read(&same).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "nothing else is left");

    let options = ["--beam", "4", "--quiet", "--shortlist", argument(&lists)];
    let translate =
        |text: &[&str]| run(&[&["translate"][..], text, &options].concat(), b"").success();
    let expected = format!("{}\n{}\n", golden(CAT, "beam4"), golden(THANKS, "beam4"));
    assert_eq!(translate(&[CAT, THANKS]), expected);
    // A word that the text did not have can't come out.
    let free = run(&["translate", "The horse.", "--beam", "4", "--quiet"], b"").success();
    assert!(free.contains("cheval"), "{free}");
    assert!(!translate(&["The horse."]).contains("cheval"));
    let arguments = ["evaluate", "--source", argument(&source), "--reference", argument(&target)];
    let bleu = run(&[&arguments[..], &["--metrics", "bleu"], &options].concat(), b"").success();
    assert!(bleu.starts_with("BLEU|"), "{bleu}");
}

#[test]
fn what_cannot_be_learnt_or_used_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target, tsv] = write_pairs(folder.path());
    let [lists, short] = ["lists.bin", "short"].map(|name| folder.path().join(name));
    fs::write(&short, "one\n").unwrap();
    let output = ["--quiet", "--output", argument(&lists)];
    for (status, arguments, expected) in [
        (2, &["shortlist"][..], "Give --source and --target, or --tsv"),
        (2, &["shortlist", "--source", argument(&source)], "--target"),
        (
            2,
            &[
                "shortlist",
                "--source",
                argument(&source),
                argument(&short),
                "--target",
                argument(&target),
            ],
            "--source names 2 files and --target 1",
        ),
        (
            1,
            &["shortlist", "--source", argument(&source), "--target", argument(&short)],
            "short ends before line 2, ",
        ),
        (
            1,
            &["shortlist", "--tsv", argument(&source)],
            "source.en, line 1: no column 2 (counted from 1): there are 1",
        ),
        (1, &["shortlist", "--tsv", "absent"], "cannot read absent"),
        (1, &["shortlist", "--tsv", "/dev/null"], "no text to learn from"),
        (2, &["shortlist", "--tsv", argument(&tsv), "--threshold", "2"], "threshold: 2 is no"),
    ] {
        let (stdout, stderr) = run(&[arguments, &output].concat(), b"").failure(status);
        assert_eq!(stdout, "");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
        assert!(!lists.exists());
    }
    let with =
        |path: &Path| run(&["translate", CAT, "--shortlist", argument(path)], b"").failure(1).1;
    assert!(with(&lists).contains("cannot read "), "{}", with(&lists));
    assert!(with(&source).contains("source.en is not a usable shortlist file"));
    // One that is well-formed, but of other vocabularies.
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/shortlist/small");
    let message = with(&foreign);
    assert!(
        message.contains("is a shortlist for another model: it is for 3 source and 5 target"),
        "{message}"
    );
}
