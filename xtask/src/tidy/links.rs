//! Checks the links between the project's Markdown documents: each leads to a file of the project
//! and to a heading in it, and the book's list of pages is complete.

use crate::book;
use crate::markdown::{anchors, line_of, link_targets};
use crate::project::{self, Outcome, inside, root};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The faults.
pub(super) fn check(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut pages = HashMap::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        pages.insert(file.clone(), project::read(file)?);
    }
    let mut faults = unlisted(&pages);
    for (file, text) in &pages {
        for target in link_targets(text) {
            let line = line_of(text, target.start);
            if let Some(problem) = broken(file, &text[target], &pages) {
                faults.push(format!("{}:{line}: {problem}", file.display()));
            }
        }
    }
    Ok(faults)
}

/// What is wrong with a link of `file`, if it leads into the project.
fn broken(file: &Path, target: &str, pages: &HashMap<PathBuf, String>) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
    let folder = file.parent().unwrap_or(Path::new(""));
    let Some(path) = (if path.is_empty() { Some(file.into()) } else { inside(folder, path) })
    else {
        return Some(format!("the link to {target} leaves the project; give an address"));
    };
    if !root().join(&path).exists() {
        return Some(format!("the link to {target} leads nowhere"));
    }
    let anchor = anchor?;
    let has_it = pages.get(&path).is_some_and(|text| anchors(text).iter().any(|a| a == anchor));
    (!has_it).then(|| format!("{} has no heading with the anchor #{anchor}", path.display()))
}

/// The pages of the documentation that its summary does not list.
fn unlisted(pages: &HashMap<PathBuf, String>) -> Vec<String> {
    let summary = Path::new(book::FOLDER).join(book::SUMMARY);
    let text = pages.get(&summary).map_or("", String::as_str);
    let listed: Vec<PathBuf> = link_targets(text)
        .into_iter()
        .filter_map(|target| inside(Path::new(book::FOLDER), &text[target]))
        .collect();
    let documented = pages.keys().filter(|page| page.starts_with(book::FOLDER));
    let unlisted = documented.filter(|page| **page != summary && !listed.contains(page));
    unlisted
        .map(|page| format!("{}: does not list {}", summary.display(), page.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_broken_links() {
        let text = "# tfm\n## Choosing a backend\n".to_owned();
        let pages = HashMap::from([(PathBuf::from("README.md"), text)]);
        let problem = |target| broken(Path::new("docs/training.md"), target, &pages);
        let good =
            ["https://a.org/#x", "../README.md#choosing-a-backend", "../README.md", "../docs"];
        for target in good {
            assert_eq!(problem(target), None, "{target}");
        }
        for (target, expected) in [
            ("nowhere.md", "leads nowhere"),
            ("../README.md#choosing", "no heading"),
            ("#here", "no heading"),
            ("../../README.md", "leaves the project"),
        ] {
            assert!(problem(target).is_some_and(|found| found.contains(expected)), "{target}");
        }
    }

    #[test]
    fn finds_pages_that_the_summary_lacks() {
        let page = |name: &str, text: &str| (PathBuf::from(name), text.to_owned());
        let pages = HashMap::from([
            page("docs/SUMMARY.md", "- [A](a.md)\n- [B](deep/b.md)\n"),
            page("docs/a.md", ""),
            page("docs/deep/b.md", ""),
            page("docs/deep/c.md", ""),
            page("README.md", ""),
        ]);
        assert_eq!(unlisted(&pages), ["docs/SUMMARY.md: does not list docs/deep/c.md"]);
    }
}
