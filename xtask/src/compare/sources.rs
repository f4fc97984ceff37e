//! The lines that the models read.

use crate::project::{self, Outcome};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// English sentences that are part of the project.
const ENGLISH: &str = "crates/tfm/tests/fixtures/bundled.en";
/// The most lines for a model.
const MOST: usize = 320;
/// The most characters of a line of molecules. A token has at least one, and the model that reads
/// them has 102 positions.
const LONGEST_MOLECULE: usize = 96;

/// English sentences, first alone and then in pairs, so that there are many lengths.
pub(super) fn english() -> Outcome<Vec<String>> {
    let text = project::read(ENGLISH)?;
    Ok(paired(&text.lines().collect::<Vec<_>>(), " "))
}

/// The lines that a model's folder has for it: `reference/source.en`, or the molecules of
/// `reference/reference.json`. Otherwise English sentences.
pub(super) fn of(folder: &Path) -> Outcome<Vec<String>> {
    if let Ok(text) = fs::read_to_string(folder.join("reference/source.en")) {
        return Ok(text.lines().take(MOST).map(str::to_owned).collect());
    }
    let path = folder.join("reference/reference.json");
    let Ok(text) = fs::read_to_string(&path) else { return english() };
    let reference: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let cases = reference["cases"].as_array().into_iter().flatten();
    let molecules: Vec<&str> = cases.filter_map(|case| case["smiles"].as_str()).collect();
    if molecules.is_empty() {
        return english();
    }
    let mut lines = paired(&molecules, ".");
    lines.retain(|line| line.chars().count() <= LONGEST_MOLECULE);
    Ok(lines)
}

/// All lines, followed by every two neighbours joined.
fn paired(lines: &[&str], between: &str) -> Vec<String> {
    let alone = lines.iter().map(|&line| line.to_owned());
    let pairs = lines.iter().flat_map(|first| {
        lines.iter().filter(move |second| *second != first).map(move |second| (first, second))
    });
    let pairs = pairs.map(|(first, second)| format!("{first}{between}{second}"));
    alone.chain(pairs).take(MOST).collect()
}
