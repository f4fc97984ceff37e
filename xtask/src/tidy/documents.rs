//! Checks that documents keep up with the code: the page on architecture names every crate, and
//! the laws cover every fused op.

use crate::project::{self, Outcome, root};
use std::path::{Path, PathBuf};

const OPS: &str = "crates/tfm-core/src/fused";
const LAWS: &str = "crates/tfm-core/src/testing";

/// The faults.
pub(super) fn check(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut faults = unnamed_crates()?;
    faults.extend(ops_without_laws(files)?);
    Ok(faults)
}

/// The page on architecture must name every crate.
fn unnamed_crates() -> Outcome<Vec<String>> {
    const PAGE: &str = "docs/ARCHITECTURE.md";
    let page = project::read(PAGE)?;
    let mut faults = Vec::new();
    let crates = std::fs::read_dir(root().join("crates")).map_err(|e| format!("crates: {e}"))?;
    for entry in crates.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().join("Cargo.toml").exists() && !page.contains(&name) {
            faults.push(format!("{PAGE}: does not name the crate {name}"));
        }
    }
    Ok(faults)
}

/// The laws must cover every fused op that `fused_ops!` lists.
fn ops_without_laws(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let list = project::read(Path::new(OPS).join("mod.rs"))?;
    let (_, list) = list.split_once("fused_ops!(").ok_or("no `fused_ops!(…)` in the fused ops")?;
    let (list, _) = list.split_once(')').ok_or("`fused_ops!(` is not closed")?;
    let mut laws = String::new();
    for file in files.iter().filter(|file| file.starts_with(LAWS)) {
        laws += &project::read(file)?;
    }
    let words = list.split(|c: char| !c.is_alphanumeric());
    let ops = words.filter(|word| word.starts_with(char::is_uppercase));
    let missing = ops.filter(|op| !laws.contains(op));
    Ok(missing.map(|op| format!("{LAWS}: no law covers the fused op {op}")).collect())
}
