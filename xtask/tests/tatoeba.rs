//! `scripts/tatoeba.py` splits an archive of the form of manythings.org as the configurations
//! expect.

use flate2::read::GzDecoder;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

const SPLITS: [&str; 3] = ["train", "dev", "test"];

fn python(folder: &Path, arguments: &[&str]) -> Option<Output> {
    let output = Command::new("python3").current_dir(folder).args(arguments).output();
    output.map_err(|e| println!("skipped: no python3: {e}")).ok()
}

/// The lines of a split, in columns.
fn read_split(folder: &Path, name: &str) -> Vec<Vec<String>> {
    let packed = fs::File::open(folder.join(format!("out/{name}.en-fr.tsv.gz"))).unwrap();
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn an_archive_is_split_by_english_sentence() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/tatoeba.py");
    let script = script.to_str().unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tatoeba");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    // Two translations of each sentence, one of them with an accent of its own (not NFC), and each
    // pair twice.
    let mut text = String::new();
    for n in 0..1000 {
        for pair in ["Phrase", "E\u{301}nonce\u{301}", "Phrase"] {
            writeln!(text, "Sentence {n}.\t{pair} {n}.\tCC BY, #{n}").unwrap();
        }
    }
    fs::write(folder.join("fra.txt"), text).unwrap();
    let zip = ["-m", "zipfile", "-c", "fra-eng.zip", "fra.txt"];
    let Some(zipped) = python(&folder, &zip) else { return };
    assert!(zipped.status.success());

    let arguments = [script, "fr", "--archive", "fra-eng.zip", "--output", "out"];
    let output = python(&folder, &arguments).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let splits = SPLITS.map(|name| read_split(&folder, name));
    let sentences = splits
        .each_ref()
        .map(|lines| lines.iter().map(|columns| columns[0].as_str()).collect::<BTreeSet<_>>());
    assert_eq!(sentences.iter().map(BTreeSet::len).sum::<usize>(), 1000, "in one split each");
    for (name, (lines, sentences)) in SPLITS.iter().zip(splits.iter().zip(&sentences)) {
        assert!(!lines.is_empty(), "{name} is empty");
        let translations = if *name == "train" { 2 } else { 1 };
        assert_eq!(lines.len(), translations * sentences.len(), "{name}");
        assert!(lines.iter().all(|columns| columns.len() == 3), "{name}");
    }
    assert!(splits[0].iter().any(|columns| columns[1].starts_with("Énoncé")), "not in NFC");

    let refused = python(&folder, &[script, "fr", "--archive", "fra.txt"]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--archive"));
}
