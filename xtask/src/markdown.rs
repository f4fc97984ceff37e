//! What the checks and the book need to know of a Markdown document: its links and its anchors.

use std::collections::HashMap;
use std::ops::Range;

/// Where a document's link targets lie in its text, outside of code: `[…](target)`, also with a
/// title, and `[…]: target`.
pub(crate) fn link_targets(text: &str) -> Vec<Range<usize>> {
    let prose = without_code(text);
    let mut targets = Vec::new();
    for (at, _) in prose.match_indices("](") {
        targets.extend(until(&prose, at + 2, &[' ', ')', '\n']));
    }
    for (at, _) in prose.match_indices("]: ") {
        let line = prose[..at].rfind('\n').map_or(0, |end| end + 1);
        if prose[line..at].trim_start().starts_with('[') {
            targets.extend(until(&prose, at + 3, &[' ', '\n']));
        }
    }
    targets.sort_by_key(|target| target.start);
    targets
}

/// The range from `start` to before the first of `ends`, if it is not empty.
fn until(text: &str, start: usize, ends: &[char]) -> Option<Range<usize>> {
    let length = text[start..].find(ends).unwrap_or(text.len() - start);
    (length > 0).then_some(start..start + length)
}

/// The line, counted from 1, of a place in a text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The anchors of a document's headings, as GitHub and mdBook make them: a repeated one gets a
/// number.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = Vec::new();
    let mut fenced = Fence::default();
    for line in text.lines() {
        let is_code = fenced.covers(line);
        let title = line.trim_start_matches('#');
        let depth = line.len() - title.len();
        if is_code || !(1..=6).contains(&depth) || !title.starts_with(' ') {
            continue;
        }
        let anchor = anchor(title.trim());
        let repeated = seen.entry(anchor.clone()).and_modify(|count| *count += 1).or_insert(0);
        anchors.push(if *repeated == 0 { anchor } else { format!("{anchor}-{repeated}") });
    }
    anchors
}

/// The anchor of one heading: letters, digits, `-` and `_` of its text, spaces as `-`.
fn anchor(title: &str) -> String {
    let mut shown = title.to_owned();
    // Of a link in a heading only the label is text.
    for target in link_targets(title).into_iter().rev() {
        shown.replace_range(target.start - 1..target.end + 1, "");
    }
    let kept = shown.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The text with blanks in the place of code, so that places stay the same.
fn without_code(text: &str) -> String {
    let mut prose = String::with_capacity(text.len());
    let mut fenced = Fence::default();
    for line in text.split_inclusive('\n') {
        if fenced.covers(line) { blank(&mut prose, line) } else { prose.push_str(line) }
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = &prose[..];
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let (before, code) = rest.split_at(start);
        shown.push_str(before);
        // Code ends with as many ticks, in the same paragraph. Other ticks are text.
        let length = code_length(code, ticks).unwrap_or(0);
        blank(&mut shown, &code[..length]);
        let end = if length == 0 { ticks } else { length };
        shown.push_str(&code[length..end]);
        rest = &code[end..];
    }
    shown + rest
}

/// How long the code is that `text` begins with, if it ends.
fn code_length(text: &str, ticks: usize) -> Option<usize> {
    let paragraph = &text[..text.find("\n\n").unwrap_or(text.len())];
    let mut at = ticks;
    loop {
        let start = at + paragraph[at..].find('`')?;
        let length = paragraph[start..].len() - paragraph[start..].trim_start_matches('`').len();
        at = start + length;
        if length == ticks {
            return Some(at);
        }
    }
}

/// Appends blanks for `code`, byte by byte, and its line ends.
fn blank(text: &mut String, code: &str) {
    text.extend(code.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
}

/// Whether the lines that are read, in their order, are code between fences.
#[derive(Default)]
struct Fence {
    /// What opened the block.
    mark: Option<String>,
}

impl Fence {
    /// Whether the next line is code or a fence.
    fn covers(&mut self, line: &str) -> bool {
        let line = line.trim();
        let Some(mark) = &self.mark else {
            let fence = |c: char| line.len() - line.trim_start_matches(c).len();
            let length = fence('`').max(fence('~'));
            self.mark = (length >= 3).then(|| line[..length].to_owned());
            return self.mark.is_some();
        };
        if line.starts_with(mark) && line.trim_start_matches(&mark[..1]).is_empty() {
            self.mark = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<&str> {
        link_targets(text).into_iter().map(|target| &text[target]).collect()
    }

    #[test]
    fn finds_links_and_no_code() {
        let text = "[a\nb](docs/a.md#part), [`c`](c.md \"title\"), ![d](d.png)\n[e]: e.md\n\
            ````md\n```\n[f](f.md)\n````\nand `[g](g.md)`, ``h ` [h](h.md)``, a lone ` and [i](i.md).\n";
        let expected = ["docs/a.md#part", "c.md", "d.png", "e.md", "i.md"];
        assert_eq!(targets(text), expected);
        assert_eq!(line_of(text, text.find("[e]").unwrap()), 3);
    }

    #[test]
    fn makes_the_anchors_of_headings() {
        let text = "# A page\n## `[loss]` and `[dropout]`\n```\n# no heading\n```\n## Écrire, [so\
            ](x.md): v_1\n### Écrire, so: v_1\n#hashtag\n";
        let expected = ["a-page", "loss-and-dropout", "écrire-so-v_1", "écrire-so-v_1-1"];
        assert_eq!(anchors(text), expected);
    }
}
