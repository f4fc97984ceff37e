//! The project on disk: where it lies, which files it has, and how commands run in it.

use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// What a task returns: a value, or the reason why it failed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A `cargo` of the toolchain that runs this task, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Runs a command to its end. Its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.status().map_err(|e| format!("{shown}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().map_err(|e| format!("{shown}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{shown}: {e}"))
}

/// The files of the project, relative to its root: those that git tracks, and new ones that it does
/// not ignore. Links are left out, since the files they lead to have names of their own.
pub(crate) fn files() -> Outcome<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut files: Vec<PathBuf> = output(&mut git)?.lines().map(PathBuf::from).collect();
    files.retain(|file| root().join(file).symlink_metadata().is_ok_and(|found| found.is_file()));
    files.sort();
    files.dedup();
    Ok(files)
}

/// The path, from the project's root, of what `folder` names `path`. None if it is not in the
/// project.
pub(crate) fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::Normal(name) => found.push(name),
            Component::CurDir => {}
            Component::ParentDir if found.pop() => {}
            _ => return None,
        }
    }
    Some(found)
}

/// Reads a file of the project as text.
pub(crate) fn read(file: impl AsRef<Path>) -> Outcome<String> {
    let file = file.as_ref();
    std::fs::read_to_string(root().join(file)).map_err(|e| format!("{}: {e}", file.display()))
}

/// The folder of the large test data: `TFM_TEST_DATA`, else `../shared` beside the clone. An error
/// says why there is none.
pub(crate) fn test_data() -> Result<PathBuf, String> {
    let chosen = std::env::var_os("TFM_TEST_DATA");
    let folder = chosen.map_or_else(|| root().join("../shared"), PathBuf::from);
    if folder.is_dir() { Ok(folder) } else { Err(format!("no {}", folder.display())) }
}
