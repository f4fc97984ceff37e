//! Running the command.
#![allow(dead_code)] // each test file uses a part

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The command with these arguments, in a folder that has nothing of the project.
pub(crate) fn tfm(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tfm"));
    command.args(arguments).current_dir(std::env::temp_dir());
    command
}

/// Starts the command, with pipes.
pub(crate) fn start(arguments: &[&str]) -> Child {
    let mut command = tfm(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the command starts")
}

/// Runs the command to its end on this input.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Outcome {
    let mut child = start(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A command that fails early does not read its input: that is no failure of the test.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("the command ends")
    });
    Outcome::from(output)
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Outcome {
            status: output.status.code().expect("the command is not killed"),
            stdout: String::from_utf8(output.stdout).expect("results are UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }
}

impl Outcome {
    /// The results of a run that succeeded.
    pub(crate) fn success(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// The results and the message of a run that failed in this way.
    pub(crate) fn failure(self, status: i32) -> (String, String) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        (self.stdout, self.stderr)
    }
}

/// The checked-in fixture of that name.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tfm/tests/fixtures").join(name)
}

/// The folder of the bundled model.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tfm/models/marian-tatoeba-en-fr")
}

/// A path in the large test data: where `TFM_TEST_DATA` points, else `../shared`. `None`, and a
/// line that says so, where it is absent.
pub(crate) fn test_data(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("TFM_TEST_DATA").map_or_else(beside, PathBuf::from).join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no {}", path.display());
    None
}

/// A sentence of the bundled golden.
pub(crate) const CAT: &str = "The cat is sleeping.";
/// Another.
pub(crate) const THANKS: &str = "Thank you very much for your help.";

/// What `transformers` makes of a sentence of the bundled golden, by a `greedy` search or `beam4`.
pub(crate) fn golden(sentence: &str, search: &str) -> String {
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("bundled.json")).unwrap()).unwrap();
    let mut lines = golden["lines"].as_array().expect("the fixture has lines").iter();
    let line = lines.find(|line| line["text"] == sentence).expect("the fixture has the sentence");
    line[format!("{search}_text")].as_str().unwrap().to_owned()
}

/// A path as an argument.
pub(crate) fn argument(path: &Path) -> &str {
    path.to_str().expect("the paths of tests are UTF-8")
}
