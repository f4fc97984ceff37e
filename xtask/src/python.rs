//! Pinned packages from PyPI, in folders of their own in the project. Only development needs them.

use crate::project::{self, Outcome, read, root};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python whose packages the fixtures and the benchmarks beside other programs need.
pub(crate) fn environment() -> Outcome<PathBuf> {
    packages(".venv", "xtask/python/requirements.txt")
}

/// The Python of `folder` with the packages of `requirements`. It is made if it is missing or out
/// of date.
pub(crate) fn packages(folder: &str, requirements: &str) -> Outcome<PathBuf> {
    let path = root().join(folder);
    let python = path.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = read(requirements)?;
    let stamp = path.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("installing {requirements} in {folder}");
    project::run(Command::new("python3").args([Path::new("-m"), Path::new("venv"), &path]))?;
    let mut install = Command::new(&python);
    install.current_dir(root()).args(["-m", "pip", "install", "--quiet", "--requirement"]);
    project::run(install.arg(requirements))?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(python)
}
