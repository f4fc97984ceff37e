//! The examples do what they say. `cargo test -p tfm-engine` builds them before it runs this.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs an example, which must succeed. Returns what it printed.
fn run<A: AsRef<OsStr>>(example: &str, arguments: &[A]) -> String {
    let output = Command::new(program(example)).args(arguments).output().unwrap();
    let [printed, errors] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{example}: {}: {errors}", output.status);
    printed
}

/// The example's program. Cargo puts examples beside the folder of the tests.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().and_then(Path::parent).unwrap().join("examples");
    let program = examples.join(example).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{}: build it by `cargo test` without --test", program.display());
    program
}

/// A folder of this test run, empty.
fn empty_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/marian-tatoeba-en-fr")
}

#[test]
fn translate_prints_alternatives_and_the_lines_of_a_file() {
    let file = empty_folder("example_translate").join("lines.en");
    std::fs::write(&file, "The cat is sleeping.\n\nThank you.\n").unwrap();
    let printed = run("translate", &[file]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with("Où est la gare ? (-0.14"), "{printed}");
    assert!(lines[1].starts_with("or: Où se trouve la gare ? (-0.29"), "{printed}");
    assert_eq!(lines[4..], ["Le chat dort.", "", "Merci."]);
}

#[test]
fn stream_prints_the_whole_translation() {
    let printed = run::<&str>("stream", &[]);
    assert!(printed.starts_with("Elle vit à Paris depuis dix ans.\n"), "{printed}");
    assert!(printed.contains("cancelled"), "{printed}");
}

#[test]
fn many_threads_get_their_own_results() {
    let printed = run::<&str>("many_threads", &[]);
    for line in ["Where is the station? -> Où est la gare ?", "Thank you. -> Merci."] {
        assert!(printed.lines().any(|printed| printed == line), "{printed}");
    }
}

#[test]
fn scores_and_alignments_are_those_of_the_model() {
    let printed = run::<&str>("scores_and_alignments", &[]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with("Le chat dort. -0.56"), "{printed}");
    assert!(printed.contains("Le chien dort. -7.6"), "{printed}");
    assert!(lines.contains(&"▁chat <- ▁cat"), "{printed}");
}

#[test]
fn custom_device_computes_in_the_type_that_is_asked_for() {
    let printed = run("custom_device", &["cpu", "int8"]);
    assert_eq!(printed, "Le chat dort. (cpu, int8, 2 threads)\n");
    let refused = Command::new(program("custom_device")).args(["cpu", "int7"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[cfg(feature = "training")]
#[test]
fn fine_tune_writes_a_model_that_knows_the_new_word() {
    let folder = empty_folder("example_fine_tune");
    let printed = run("fine_tune", &[bundled(), folder.clone()]);
    assert!(printed.contains(": Merci, tfm."), "{printed}");
    assert!(folder.join("run/model/config.json").exists());
}
