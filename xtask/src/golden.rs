//! `cargo xtask golden`: the fixtures that say what Hugging Face answers, made again.

use crate::project::{self, Outcome, read, root};
use std::path::Path;
use std::process::Command;

const REQUIREMENTS: &str = "xtask/python/requirements.txt";
const FIXTURES: &str = "crates/tfm/tests/fixtures";
const SCRIPT: &str = "xtask/python/golden.py";

/// Makes the fixtures, with the pinned packages in `.venv`.
pub(crate) fn run() -> Outcome {
    let python = environment()?;
    project::run(Command::new(python).current_dir(root()).args([SCRIPT, "--out", FIXTURES]))
}

/// The Python of `.venv`, with the packages of the requirements; made where it is missing or out of date.
pub(crate) fn environment() -> Outcome<std::path::PathBuf> {
    let folder = root().join(".venv");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = read(REQUIREMENTS)?;
    let stamp = folder.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("installing {REQUIREMENTS} in .venv");
    project::run(Command::new("python3").args([Path::new("-m"), Path::new("venv"), &folder]))?;
    let mut install = Command::new(&python);
    install.current_dir(root()).args(["-m", "pip", "install", "--quiet", "--requirement"]);
    project::run(install.arg(REQUIREMENTS))?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(python)
}
