//! Comments and documents have lines of at most 100 columns, as code has.

use crate::project::{self, Outcome};
use std::path::{Path, PathBuf};

/// The width that `rustfmt.toml` gives code.
const MOST_COLUMNS: usize = 100;

/// The faults.
pub(super) fn check(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut faults = Vec::new();
    for file in files {
        let Some(long_lines) = long_lines_of(file) else { continue };
        for number in long_lines(&project::read(file)?) {
            faults.push(format!(
                "{}:{number}: more than {MOST_COLUMNS} columns; break the line",
                file.display()
            ));
        }
    }
    Ok(faults)
}

/// The rule for a file of this type: it returns the numbers of the lines that are too long.
fn long_lines_of(file: &Path) -> Option<fn(&str) -> Vec<usize>> {
    match file.extension()?.to_str()? {
        "rs" => Some(long_comments),
        "md" => Some(long_paragraphs),
        _ => None,
    }
}

/// The numbers of the comment lines of a Rust source that are too long. `rustfmt` sees to the code.
fn long_comments(source: &str) -> Vec<usize> {
    let lines = source.lines().enumerate();
    let long = lines.filter(|(_, line)| {
        let comment = line.trim_start();
        let text = comment.trim_start_matches(['/', '!']).trim_start();
        // A comment behind code: behind the end of a statement, a field or a block, so that it is
        // not taken for a `//` in a string.
        let trails = ["; // ", ", // ", "{ // ", "} // "].iter().any(|end| line.contains(end));
        is_long(line) && (trails || comment.starts_with("//") && can_be_broken(text))
    });
    long.map(|(number, _)| number + 1).collect()
}

/// The numbers of the lines of a Markdown document that are too long, outside of code and of what
/// `cargo xtask bench` writes between its marks.
fn long_paragraphs(document: &str) -> Vec<usize> {
    let mut long = Vec::new();
    let (mut is_code, mut is_generated) = (false, false);
    for (number, line) in document.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if line.starts_with("<!-- ") {
            is_generated = line.ends_with(": begin -->");
        }
        if is_long(line) && !is_code && !is_generated && can_be_broken(line) {
            long.push(number + 1);
        }
    }
    long
}

fn is_long(line: &str) -> bool {
    line.chars().count() > MOST_COLUMNS
}

/// Whether a line of text may go on in the next one: not a row of a table, not a heading, and not a
/// single word, such as the address of a page with or without the name that it is given.
fn can_be_broken(text: &str) -> bool {
    let text = text.trim_start_matches(['-', ' ']);
    let text = text.split_once("]: ").map_or(text, |(_, address)| address);
    !text.starts_with(['|', '#']) && text.trim_end().contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_long_comments_and_no_long_code() {
        let words = "word ".repeat(20);
        let source = format!(
            "/// Short.\n    /// {words}long.\nlet text = \"{words}// long\";\n/// | {words}|\n\
             x = 1; // {words}\n//! - https://{}\n// {}\n",
            "a".repeat(100),
            &words[..97]
        );
        assert_eq!(long_comments(&source), [2, 5]);
    }

    #[test]
    fn finds_long_paragraphs_and_no_long_tables() {
        let words = "word ".repeat(21);
        let document = format!(
            "# {words}\n| {words}|\n```\n{words}\n```\n- {words}\n<!-- table: begin -->\n{words}\n\
             <!-- table: end -->\n{words}\n[a]: https://{}\n",
            "a".repeat(100)
        );
        assert_eq!(long_paragraphs(&document), [6, 10]);
    }

    #[test]
    fn counts_characters() {
        assert!(!is_long(&"µ".repeat(MOST_COLUMNS)));
        assert!(is_long(&"µ".repeat(MOST_COLUMNS + 1)));
    }
}
