//! `cargo xtask book`: the pages of `docs` as a book of HTML, in `target/book`.

use crate::markdown::link_targets;
use crate::project::{self, Outcome, cargo, inside, root};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the pages.
pub(crate) const FOLDER: &str = "docs";
/// The list of the pages, in that folder.
pub(crate) const SUMMARY: &str = "SUMMARY.md";

/// The version of mdBook. It is installed as a program, so that the workspace does not depend on
/// it.
const MDBOOK: &str = "0.5.4";
/// Where programs are installed.
const TOOLS: &str = "target/tools";
/// Where the pages lie as mdBook gets them.
const PAGES: &str = "target/book-pages";
const BOOK: &str = "target/book";

/// Builds the book and checks its links.
pub(crate) fn run() -> Outcome {
    let mdbook = installed()?;
    let files = project::files()?;
    let pages = emptied(PAGES)?;
    for file in files.iter().filter(|file| file.starts_with(FOLDER)) {
        let page = pages.join(file.strip_prefix(FOLDER).map_err(|e| e.to_string())?);
        create_folder(page.parent().unwrap_or(&pages))?;
        if file.extension().is_some_and(|extension| extension == "md") {
            std::fs::write(&page, with_addresses(file, &project::read(file)?))
        } else {
            std::fs::copy(root().join(file), &page).map(drop)
        }
        .map_err(|e| format!("{}: {e}", page.display()))?;
    }
    let book = emptied(BOOK)?;
    project::run(Command::new(mdbook).arg("build").arg(&pages).arg("--dest-dir").arg(&book))?;
    let broken = broken_links(&book)?;
    if !broken.is_empty() {
        return Err(format!("links of the book lead nowhere:\n{}", broken.join("\n")));
    }
    println!("the book begins at {}", book.join("index.html").display());
    Ok(())
}

/// The path of mdBook, which is installed if it is not there in this version.
fn installed() -> Outcome<PathBuf> {
    let tools = root().join(TOOLS);
    let program = tools.join("bin/mdbook").with_extension(std::env::consts::EXE_EXTENSION);
    let version = Command::new(&program).arg("--version").output();
    let wanted = format!("mdbook v{MDBOOK}");
    if version.is_ok_and(|found| String::from_utf8_lossy(&found.stdout).trim() == wanted) {
        return Ok(program);
    }
    println!("installing mdbook {MDBOOK} in {TOOLS}");
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", "--force", "--root"]).arg(&tools);
    install.args(["--no-default-features", "--features", "search"]);
    project::run(install.args(["--version", &format!("={MDBOOK}"), "mdbook"]))?;
    Ok(program)
}

/// A folder with nothing in it.
fn emptied(folder: &str) -> Outcome<PathBuf> {
    let path = root().join(folder);
    if path.exists() {
        std::fs::remove_dir_all(&path).map_err(|e| format!("{folder}: {e}"))?;
    }
    create_folder(&path)?;
    Ok(path)
}

fn create_folder(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

/// The text of a page, in which links to files beyond the book are addresses of the repository.
fn with_addresses(file: &Path, text: &str) -> String {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut changed = text.to_owned();
    for target in link_targets(text).into_iter().rev() {
        let link = &text[target.clone()];
        if link.contains("://") || link.starts_with('#') {
            continue;
        }
        let (path, anchor) = link.split_at(link.find('#').unwrap_or(link.len()));
        if let Some(path) = inside(folder, path).filter(|path| !path.starts_with(FOLDER)) {
            let path = path.display().to_string().replace('\\', "/");
            let address = format!("{}/blob/HEAD/{path}{anchor}", env!("CARGO_PKG_REPOSITORY"));
            changed.replace_range(target, &address);
        }
    }
    changed
}

/// The links of the book's pages that lead to no file of the book, or to no place in it.
fn broken_links(book: &Path) -> Outcome<Vec<String>> {
    let mut pages = Vec::new();
    find_pages(book, &mut pages)?;
    let mut broken = Vec::new();
    for page in &pages {
        let read = |page: &Path| {
            std::fs::read_to_string(page).map_err(|e| format!("{}: {e}", page.display()))
        };
        for link in read(page)?.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            if link.contains(':') {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let leads = target.exists()
                && (anchor.is_empty() || read(&target)?.contains(&format!("id=\"{anchor}\"")));
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    Ok(broken)
}

/// The HTML files below a folder, without those that repeat others' links at another depth: the
/// page to print, and the page for addresses that do not exist.
fn find_pages(folder: &Path, pages: &mut Vec<PathBuf>) -> Outcome {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            find_pages(&path, pages)?;
        } else if path.extension().is_some_and(|e| e == "html")
            && name != "print.html"
            && name != "404.html"
        {
            pages.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_beyond_the_book_become_addresses() {
        let text = "[a](../README.md#x) [b](cuda.md) [c](#d) [e](https://e.org) `[f](../f)`";
        let address = format!("{}/blob/HEAD/README.md#x", env!("CARGO_PKG_REPOSITORY"));
        let expected = text.replacen("../README.md#x", &address, 1);
        assert_eq!(with_addresses(Path::new("docs/training.md"), text), expected);
    }

    #[test]
    fn a_book_with_a_broken_link_is_refused() {
        let book = emptied("target/tmp/a_book").unwrap();
        let page = |name: &str, text: &str| std::fs::write(book.join(name), text).unwrap();
        page("a.html", r#"<a href="b.html#there"> <a href="b.html#gone"> <a href="c.html">"#);
        page("b.html", r#"<h1 id="there"> <a href="https://e.org"> <a href="a.html">"#);
        let broken = broken_links(&book).unwrap();
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].ends_with("b.html#gone") && broken[1].ends_with("c.html"), "{broken:?}");
    }
}
