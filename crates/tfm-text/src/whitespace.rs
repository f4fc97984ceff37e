//! Whitespace as Python's `str` methods see it.
//!
//! The reference implementations (sacreBLEU, the Hugging Face tokenisers) are written in Python,
//! whose `split` and `strip` also cut at the four ASCII separators U+001C–U+001F. Those do not
//! carry Unicode's `White_Space` property, so Rust's own methods keep them.

/// Whether Python's `str.isspace` holds for `c`.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.strip()`
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.lstrip()`
pub(crate) fn strip_start(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// `str.rstrip()`
pub(crate) fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `str.split()`: the non-empty runs between whitespace.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}
