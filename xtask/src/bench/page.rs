//! Writes tables between the marks of a page.

use crate::project::{self, Outcome, root};
use std::fs;

/// Puts a text between the marks `<!-- name: begin -->` and `<!-- name: end -->` of a page.
pub(super) fn write(page: &str, name: &str, text: &str) -> Outcome {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let before = project::read(page)?;
    let after = replace(&before, &begin, &end, text)
        .ok_or_else(|| format!("{page}: no {} or no {end} after it", begin.trim()))?;
    fs::write(root().join(page), after).map_err(|error| format!("{page}: {error}"))
}

fn replace(page: &str, begin: &str, end: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn what_is_around_the_marks_stays() {
        let page = "a\n<b>\nold\n<e>\nc\n";
        assert_eq!(
            replace(page, "<b>\n", "<e>", "new\n").as_deref(),
            Some("a\n<b>\nnew\n<e>\nc\n")
        );
        assert_eq!(replace(page, "<x>\n", "<e>", "new\n"), None);
    }
}
