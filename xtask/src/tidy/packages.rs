//! Checks that every published crate can be packaged as it stands: it is described, has its
//! licences, is complete, and is no larger than crates.io allows.

use super::members;
use crate::project::{self, Outcome, cargo, root};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The most bytes that crates.io accepts.
const MOST_BYTES: u64 = 10 << 20;
/// The folders of a crate that its package leaves out.
const LEFT_OUT: &[&str] = &["tests"];
/// The files that every package has.
const ALWAYS: &[&str] = &["Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// The faults.
pub(super) fn check(metadata: &Value, files: &[PathBuf]) -> Outcome<Vec<String>> {
    let published: Vec<&Value> =
        members(metadata).filter(|member| member["publish"].is_null()).collect();
    let mut faults = Vec::new();
    let mut package = cargo();
    package.args(["package", "--quiet", "--no-verify", "--allow-dirty", "--offline"]);
    for member in &published {
        let name = member["name"].as_str().unwrap_or_default();
        package.args(["--package", name]);
        faults.extend(undescribed(name, member));
    }
    project::output(&mut package)?;
    for member in published {
        let name = member["name"].as_str().unwrap_or_default();
        let version = member["version"].as_str().unwrap_or_default();
        let manifest = Path::new(member["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root()).ok());
        let folder = folder.ok_or_else(|| format!("{name}: not in the workspace"))?;
        let archive = root().join(format!("target/package/{name}-{version}.crate"));
        let size =
            std::fs::metadata(&archive).map_err(|e| format!("{}: {e}", archive.display()))?;
        if size.len() > MOST_BYTES {
            faults.push(format!("{name}: {} bytes packaged, at most {MOST_BYTES}", size.len()));
        }
        let own: Vec<&Path> =
            files.iter().filter_map(|file| file.strip_prefix(folder).ok()).collect();
        faults.extend(missing(name, version, &archive, &own)?);
        faults.extend(outside(folder, &own)?);
    }
    Ok(faults)
}

/// The fields that a manifest must have and does not.
fn undescribed(name: &str, member: &Value) -> Vec<String> {
    let is_empty = |field: &&&str| match &member[**field] {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    let fields = ["description", "license", "repository", "readme", "keywords", "categories"];
    let empty = fields.iter().filter(is_empty).copied();
    let lacks_features = shows_fewer_features(member).then_some("[package.metadata.docs.rs]");
    let lacks = empty.chain(lacks_features);
    lacks.map(|field| format!("{name}: Cargo.toml does not say its {field}")).collect()
}

/// Whether docs.rs would document a library without what its features add.
fn shows_fewer_features(member: &Value) -> bool {
    let targets = member["targets"].as_array().into_iter().flatten();
    let mut kinds = targets.filter_map(|target| target["kind"].as_array()).flatten();
    let has_features = member["features"].as_object().is_some_and(|features| !features.is_empty());
    has_features
        && kinds.any(|kind| kind == "lib")
        && member["metadata"]["docs"]["rs"]["all-features"] != true
}

/// The crate's files that its package does not contain.
fn missing(name: &str, version: &str, archive: &Path, own: &[&Path]) -> Outcome<Vec<String>> {
    let listed = project::output(Command::new("tar").arg("-tzf").arg(archive))?;
    let prefix = format!("{name}-{version}");
    let packed: Vec<&Path> =
        listed.lines().filter_map(|line| Path::new(line).strip_prefix(&prefix).ok()).collect();
    let kept = own.iter().filter(|file| !LEFT_OUT.iter().any(|folder| file.starts_with(folder)));
    let wanted = kept.copied().chain(ALWAYS.iter().map(Path::new));
    let lacks = wanted.filter(|file| !packed.contains(file));
    Ok(lacks.map(|file| format!("{name}: its package lacks {}", file.display())).collect())
}

/// The files outside of the crate's folder that its sources include. No package contains them.
fn outside(folder: &Path, own: &[&Path]) -> Outcome<Vec<String>> {
    let mut faults = Vec::new();
    for file in own.iter().filter(|file| file.starts_with("src")) {
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = project::read(folder.join(file))?;
        for target in included(&source).filter(|target| leaves(file, target)) {
            let file = folder.join(file);
            faults.push(format!("{}: includes {target}, beyond its crate", file.display()));
        }
    }
    Ok(faults)
}

/// The paths that a source gives to `include!`, `include_str!` and `include_bytes!`.
fn included(source: &str) -> impl Iterator<Item = &str> {
    source.split("include").skip(1).filter_map(|rest| {
        let rest = ["_str!(", "_bytes!(", "!("].iter().find_map(|form| rest.strip_prefix(form))?;
        rest.trim_start().trim_start_matches("concat!(").strip_prefix('"')?.split('"').next()
    })
}

/// Whether a path, relative to a file of a crate, leads out of the crate.
fn leaves(file: &Path, target: &str) -> bool {
    let mut depth = file.components().count() - 1;
    Path::new(target).components().any(|component| {
        match component {
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            _ => depth += 1,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_with_features_says_what_docs_rs_shows() {
        let mut member = serde_json::json!({
            "targets": [{"kind": ["lib"]}, {"kind": ["test"]}], "features": {"cuda": []},
        });
        assert!(shows_fewer_features(&member));
        member["metadata"] = serde_json::json!({"docs": {"rs": {"all-features": true}}});
        assert!(!shows_fewer_features(&member));
        member["targets"] = serde_json::json!([{"kind": ["bin"]}]);
        member["metadata"] = Value::Null;
        assert!(!shows_fewer_features(&member), "docs.rs has no page of a command");
    }

    #[test]
    fn finds_what_lies_beyond_a_crate() {
        let source = r#"a(include_str!("../README.md")); include_bytes!(concat!("../../m/", $n))"#;
        assert_eq!(included(source).collect::<Vec<_>>(), ["../README.md", "../../m/"]);
        assert!(!leaves(Path::new("src/lib.rs"), "../README.md"));
        assert!(leaves(Path::new("src/lib.rs"), "../../m/"));
        assert!(!leaves(Path::new("src/report/a.rs"), "../../m/"));
    }
}
