//! `cargo xtask tidy`: the project's rules that no compiler checks. It lists all faults at once.

mod columns;
mod crates;
mod documents;
mod families;
mod licences;
mod links;
mod packages;
mod sources;

use crate::project::{self, Outcome};
use crate::ptx;

/// Checks every rule.
pub(crate) fn run() -> Outcome {
    let files = project::files()?;
    let metadata = metadata()?;
    let mut faults = Vec::new();
    for rule in [crates::check(&metadata)?, licences::check(&metadata)?] {
        faults.extend(rule);
    }
    faults.extend(packages::check(&metadata, &files)?);
    faults.extend(sources::check(&files)?);
    faults.extend(columns::check(&files)?);
    faults.extend(documents::check(&files)?);
    faults.extend(links::check(&files)?);
    faults.extend(families::check(&files)?);
    faults.extend(ptx::stale()?);
    if faults.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    faults.sort();
    faults.iter().for_each(|fault| println!("{fault}"));
    Err(format!("{} faults", faults.len()))
}

/// What cargo knows of the workspace and of all its dependencies.
fn metadata() -> Outcome<serde_json::Value> {
    let mut cargo = project::cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    serde_json::from_str(&project::output(&mut cargo)?).map_err(|e| format!("cargo metadata: {e}"))
}

/// The packages in cargo's metadata that lie in this workspace.
fn members(metadata: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    let ids = metadata["workspace_members"].as_array().map_or(&[][..], Vec::as_slice);
    packages(metadata).filter(move |package| ids.contains(&package["id"]))
}

/// All packages in cargo's metadata.
fn packages(metadata: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    metadata["packages"].as_array().into_iter().flatten()
}
