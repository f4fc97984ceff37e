//! The command on bad input: each time a clear error or a defined answer, and what was done before
//! is kept.

mod command;

use command::{CAT, argument, fixture, golden, run};
use std::fs;
use std::path::Path;

#[test]
fn wrong_usage_has_status_2() {
    for arguments in [
        &["translate", "--beam", "0", "Hello."][..],
        &["translate", "--beam", "100000", "Hello."],
        &["translate", "--beam", "2", "--n-best", "3", "Hello."],
        &["translate", "--length-penalty", "NaN", "Hello."],
        &["translate", "--max-new-tokens", "100000", "Hello."],
        &["translate", "--min-new-tokens", "9", "--max-new-tokens", "8", "Hello."],
        &["translate", "--device", "tpu", "Hello."],
        &["translate", "--threads", "0", "Hello."],
        &["translate", "--threads", "2000", "Hello."],
        &["translate", "--no-such-option"],
        &["evaluate", "--reference", "x"],
        &["evaluate", "--reference", "x", "--hypothesis", "y", "--paired-bs"],
        &["evaluate", "--reference", "x", "--hypothesis", "y", "--bootstrap", "0"],
        &["inspect", "--graph", "decoder", "--length", "513"],
        &["fly"],
        &[],
    ] {
        let (results, message) = run(arguments, b"").failure(2);
        assert_eq!(results, "", "{arguments:?}");
        assert!(!message.is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_unknown_language_is_an_error() {
    let (results, message) = run(&["translate", "--target-lang", "tlh", "Hello."], b"").failure(1);
    assert_eq!(results, "");
    assert!(message.contains("\"tlh\""), "{message}");
}

#[test]
fn what_cannot_be_read_or_written_is_known_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let inside = absent.join("out");
    for arguments in [
        ["translate", "--input", argument(&absent)],
        ["translate", "--input", argument(folder.path())],
        ["translate", "--output", argument(&inside)],
        ["translate", "--output", argument(folder.path())],
        ["translate", "--model", argument(&absent)],
    ] {
        let (results, message) = run(&arguments, b"The cat sleeps.\n").failure(1);
        assert_eq!(results, "", "{arguments:?}");
        assert!(
            message.contains(argument(&absent)) || message.contains(argument(folder.path())),
            "{message}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_line_that_is_not_utf8_is_named_and_the_lines_before_it_are_kept() {
    let line = format!("{CAT}\n");
    let input = [line.as_bytes(), b"\nbad \xff line\n", line.as_bytes()].concat();
    let expected = golden(CAT, "beam4") + "\n\n";
    let (results, message) = run(&["translate"], &input).failure(1);
    assert_eq!(results, expected);
    assert!(message.contains("line 3") && message.contains("UTF-8"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let (_, message) = run(&["translate", "-o", argument(&output)], &input).failure(1);
    assert!(message.contains("out.partial"), "{message}");
    assert!(!output.exists());
    let kept = fs::read_to_string(folder.path().join("out.partial")).unwrap();
    assert_eq!(kept, expected);
}

#[test]
fn a_line_of_a_megabyte_is_cut_and_said_so() {
    let long = format!("{CAT} ").repeat(50_000);
    let input = format!("{CAT}\n{long}\n{CAT}\n");
    let results = run(&["translate", "--beam", "1", "--max-new-tokens", "8"], input.as_bytes());
    assert_eq!(results.status, 0, "{results:?}");
    let lines: Vec<&str> = results.stdout.lines().collect();
    let expected = &*golden(CAT, "greedy");
    assert_eq!((lines.len(), lines[0], lines[2]), (3, expected, expected));
    assert!(!lines[1].is_empty());
    assert!(
        results.stderr.starts_with("note: standard input, line 2: too long"),
        "{}",
        results.stderr
    );
    let quiet = ["translate", "--quiet", "--beam", "1", "--max-new-tokens", "8"];
    assert_eq!(run(&quiet, input.as_bytes()).success(), results.stdout);
}

#[test]
fn a_line_without_end_does_not_take_the_memory() {
    let mut input = format!("{CAT}\n").into_bytes();
    input.resize(input.len() + (17 << 20), b'a');
    let (results, message) = run(&["translate"], &input).failure(1);
    assert_eq!(results, golden(CAT, "beam4") + "\n");
    assert!(message.contains("line 2") && message.contains("longer than"), "{message}");
}

#[test]
fn pairs_that_do_not_pair_up_are_named_and_those_before_are_kept() {
    let (results, message) =
        run(&["score"], b"The cat sleeps.\tLe chat dort.\nno tab\n").failure(1);
    assert_eq!(results.lines().count(), 1);
    assert!(message.contains("line 2") && message.contains("no column 2"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("en"), folder.path().join("fr"));
    fs::write(&source, "The cat sleeps.\nThe cat sleeps.\n").unwrap();
    fs::write(&target, "Le chat dort.\n").unwrap();
    let files = ["score", "--source", argument(&source), "--target", argument(&target)];
    let (results, message) = run(&files, b"").failure(1);
    assert_eq!(results.lines().count(), 1);
    assert!(message.contains("ends before line 2"), "{message}");

    let files = ["--hypothesis", argument(&source), "--reference", argument(&target)];
    let (results, message) = run(&[&["evaluate"][..], &files].concat(), b"").failure(1);
    assert_eq!(results, "");
    assert!(message.contains("2 hypotheses") && message.contains("1 lines"), "{message}");
}

/// A copy of a fixture's model that may be damaged.
fn damaged(folder: &Path, damage: impl FnOnce(&Path)) -> (String, String) {
    for entry in fs::read_dir(fixture("marian_swish_tied")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    damage(folder);
    run(&["translate", "--model", argument(folder), "Hello."], b"").failure(1)
}

#[test]
fn a_broken_checkpoint_lists_all_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let (results, message) = damaged(folder.path(), |folder| {
        let path = folder.join("config.json");
        let config = fs::read_to_string(&path).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["encoder_ffn_dim"] = 24.into();
        fs::write(&path, config.to_string()).unwrap();
    });
    assert_eq!(results, "");
    // Each layer of the encoder has a wrong fc1 and a wrong fc2.
    for tensor in ["model.encoder.layers.0.fc1.weight", "model.encoder.layers.0.fc2.weight"] {
        assert!(message.contains(tensor), "{tensor}: {message}");
    }
}

#[test]
fn a_truncated_checkpoint_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (results, message) = damaged(folder.path(), |folder| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert_eq!(results, "");
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn a_model_without_a_tokeniser_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (results, message) = damaged(folder.path(), |_| {}); // the fixture has none
    assert_eq!(results, "");
    assert!(message.contains("source.spm is missing"), "{message}");
}
