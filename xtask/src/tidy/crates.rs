//! Checks which crates import which, and that every crate takes the workspace's lints.

use super::members;
use crate::project::{self, Outcome};
use serde_json::Value;

/// The crates of this workspace that a crate may depend on.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("tfm-core", &[]),
    ("tfm-files", &[]),
    ("tfm-text", &["tfm-files"]),
    ("tfm-cpu", &["tfm-core"]),
    ("tfm-cuda", &["tfm-core"]),
    ("tfm-ptx-emu", &[]),
    ("tfm-fake-driver", &["tfm-ptx-emu"]),
    ("tfm-fake-cublaslt", &[]),
    ("tfm-model", &["tfm-core", "tfm-files", "tfm-text"]),
    ("tfm-train", &["tfm-core", "tfm-files", "tfm-text", "tfm-model"]),
    (
        "tfm-engine",
        &["tfm-core", "tfm-files", "tfm-text", "tfm-cpu", "tfm-cuda", "tfm-model", "tfm-train"],
    ),
    // Only the library chooses a backend.
    ("tfm-cli", &["tfm-core", "tfm-files", "tfm-text", "tfm-model", "tfm-engine"]),
    (
        "tfm-benches",
        &["tfm-core", "tfm-text", "tfm-cpu", "tfm-cuda", "tfm-model", "tfm-train", "tfm-engine"],
    ),
    (
        "xtask",
        &[
            "tfm-core",
            "tfm-text",
            "tfm-cpu",
            "tfm-cuda",
            "tfm-fake-driver",
            "tfm-model",
            "tfm-train",
            "tfm-engine",
        ],
    ),
];

/// The faults.
pub(super) fn check(metadata: &Value) -> Outcome<Vec<String>> {
    let members: Vec<&Value> = members(metadata).collect();
    let names: Vec<&str> = members.iter().filter_map(|member| member["name"].as_str()).collect();
    let mut faults = Vec::new();
    for (member, &name) in members.iter().zip(&names) {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(importer, _)| *importer == name) else {
            faults
                .push(format!("{name}: xtask/src/tidy/crates.rs does not say whom it may import"));
            continue;
        };
        // Tests may use any crate: only what a user of the crate gets counts.
        let dependencies = member["dependencies"].as_array().into_iter().flatten();
        let imports =
            dependencies.filter(|d| d["kind"] != "dev").filter_map(|d| d["name"].as_str());
        for import in imports.filter(|import| names.contains(import) && !allowed.contains(import)) {
            faults.push(format!("{name}: must not depend on {import}"));
        }
        let manifest = member["manifest_path"].as_str().unwrap_or_default();
        if !project::read(manifest)?.contains("[lints]\nworkspace = true") {
            faults.push(format!("{name}: Cargo.toml does not take the workspace's lints"));
        }
    }
    Ok(faults)
}
