//! Checks that no code asks which family a model is of. What differs between families is data.

use crate::project::{self, Outcome};
use std::path::{Path, PathBuf};

/// The only place that knows families by name, one file for each.
const FAMILIES: &str = "crates/tfm-model/src/families/";

/// The faults.
pub(super) fn check(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for file in files.iter().filter(|file| file.starts_with(FAMILIES)) {
        let source = project::read(file)?;
        names.extend(source.lines().filter_map(model_type).map(String::from));
    }
    if names.is_empty() {
        return Ok(vec![format!("{FAMILIES}: no family says its `model_type`")]);
    }
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| is_elsewhere(file)) {
        let source = project::read(file)?;
        for (number, line) in source.lines().enumerate() {
            if let Some(what) = asks(line, &names) {
                faults.push(format!(
                    "{}:{}: {what}: what differs between families is data in {FAMILIES}",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    Ok(faults)
}

/// The family's name, if this line of code gives it.
fn model_type(line: &str) -> Option<&str> {
    line.trim().strip_prefix("model_type: \"")?.strip_suffix("\",")
}

/// Whether a file is code of the product, outside of the families' own files.
fn is_elsewhere(file: &Path) -> bool {
    let mut parts = file.iter().filter_map(|part| part.to_str());
    let is_source = parts.next() == Some("crates") && parts.nth(1) == Some("src");
    is_source && file.extension().is_some_and(|found| found == "rs") && !file.starts_with(FAMILIES)
}

/// What the code in a line, without its comment, asks about a family.
fn asks(line: &str, names: &[String]) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    let named = names.iter().map(|name| format!("\"{name}\"")).find(|name| code.contains(name));
    if let Some(name) = named {
        return Some(format!("{name} names a family"));
    }
    let compares = ["match", "==", "!=", "matches!"].iter().any(|what| code.contains(what));
    let of_family = ["model_type()", " family ", ".family ", "(family,", "family()"];
    let is_of_family = of_family.iter().any(|what| code.contains(what));
    (compares && is_of_family).then(|| "compares families".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_questions_from_uses() {
        let names = ["marian".to_owned()];
        let asks = |line| asks(line, &names).is_some();
        assert!(asks("if config.family == other {"));
        assert!(asks("match family.model_type() {"));
        assert!(asks("let family = \"marian\";"));
        assert!(!asks("let name = family.model_type();"));
        assert!(!asks("// as in \"marian\""));
        assert!(!asks("let folder = \"marian-tatoeba-en-fr\";"));
        assert_eq!(model_type("    model_type: \"bart\","), Some("bart"));
    }

    #[test]
    fn looks_at_sources_outside_of_the_families() {
        assert!(is_elsewhere(Path::new("crates/tfm-model/src/config/mod.rs")));
        assert!(!is_elsewhere(Path::new("crates/tfm-model/src/families/marian.rs")));
        assert!(!is_elsewhere(Path::new("crates/tfm-model/tests/config_faults.rs")));
    }
}
