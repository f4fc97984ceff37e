//! Checks that documents keep up with the code: links lead to files that exist, the page on
//! architecture names every crate, and the laws cover every fused op.

use crate::project::{self, Outcome, root};
use std::path::{Path, PathBuf};

const OPS: &str = "crates/tfm-core/src/fused";
const LAWS: &str = "crates/tfm-core/src/testing";

/// The faults.
pub(super) fn check(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let text = project::read(file)?;
        for target in local_links(&text) {
            let folder = file.parent().unwrap_or(Path::new(""));
            if !root().join(folder).join(target).exists() {
                faults.push(format!("{}: the link to {target} leads nowhere", file.display()));
            }
        }
    }
    faults.extend(unnamed_crates()?);
    faults.extend(ops_without_laws(files)?);
    Ok(faults)
}

/// The targets of a document's links that are files of the project.
fn local_links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        let elsewhere = target.is_empty() || target.contains("://") || target.contains(' ');
        (!elsewhere).then_some(target)
    })
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

#[cfg(test)]
mod tests {
    use super::local_links;

    #[test]
    fn finds_links_to_files() {
        let text = "[a](docs/a.md#part), [b](https://b.org), [c](#here) and [d](LICENSE).";
        assert_eq!(local_links(text).collect::<Vec<_>>(), ["docs/a.md", "LICENSE"]);
    }
}
