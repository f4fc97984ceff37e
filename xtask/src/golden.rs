//! `cargo xtask golden`: makes the fixtures that hold Hugging Face's answers again.

use crate::project::{self, Outcome, root};
use crate::python;
use std::process::Command;

const FIXTURES: &str = "crates/tfm/tests/fixtures";
const SCRIPT: &str = "xtask/python/golden.py";

/// Makes the fixtures, with the pinned packages in `.venv`.
pub(crate) fn run() -> Outcome {
    let python = python::environment()?;
    project::run(Command::new(python).current_dir(root()).args([SCRIPT, "--out", FIXTURES]))
}
