//! Builds the command of a commit and of the present tree in one target folder, so that
//! dependencies are built only once.

use super::command::Binary;
use super::workplace;
use crate::project::{Outcome, cargo, output, root, run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The name of the command's binary, at every commit.
const NAME: &str = "tfm";

/// Builds the command of the commit, and that of the present tree.
pub(super) fn both(base: &str) -> Outcome<[Binary; 2]> {
    fs::create_dir_all(workplace()).map_err(|error| format!("target/compare: {error}"))?;
    let revision = format!("{base}^{{commit}}");
    let mut git = git();
    let commit = output(git.args(["rev-parse", "--verify", "--end-of-options", &revision]))?;
    let commit = commit.trim();
    let old = workplace().join(format!("{NAME}-{commit}"));
    if !old.is_file() {
        println!("building {NAME} of {commit}");
        let tree = workplace().join(commit);
        extract(commit, &tree)?;
        build(&tree, &old)?;
        fs::remove_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    }
    println!("building {NAME} of the present tree");
    let new = workplace().join(format!("{NAME}-now"));
    build(root(), &new)?;
    Ok([Binary::new(old, "old"), Binary::new(new, "new")])
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(root());
    git
}

/// Writes a commit's files to a folder, which is made anew.
fn extract(commit: &str, folder: &Path) -> Outcome {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let archive = folder.with_extension("tar");
    run(git().args(["archive", "--format=tar", "--output"]).arg(&archive).arg(commit))?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(folder))?;
    fs::remove_file(&archive).map_err(|error| format!("{}: {error}", archive.display()))
}

/// Builds the command of a tree and copies it, since the next build overwrites it.
fn build(tree: &Path, binary: &Path) -> Outcome {
    let target = root().join("target");
    let mut cargo = cargo();
    // This task itself was built with the features of the whole workspace. The same features let
    // cargo use the same dependencies.
    let package = ["--workspace", "--bin", NAME];
    cargo.current_dir(tree).args(["build", "--release", "--locked", "--quiet"]).args(package);
    run(cargo.arg("--target-dir").arg(&target))?;
    let built = target.join("release").join(NAME);
    // Copy to another name and rename, so that no other comparison runs half a binary.
    let aside = binary.with_extension("part");
    let copied = fs::copy(&built, &aside).and_then(|_| fs::rename(&aside, binary));
    copied.map_err(|error| format!("{}: {error}", built.display()))
}
