//! Arbitrary bytes as a text file, packed or not, are lines within the limit or errors, in bounded
//! memory; and a plain text is what it is.
//!
//! Shared by the fuzz target and by the property tests of tfm-files.

use std::io::Cursor;
use tfm_files::{Error, Lines};

/// The longest line.
const LONGEST: u64 = 64;
/// The lines that are looked at: a few bytes may unpack to very many.
const MOST: usize = 4096;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(lines) = Lines::new(Cursor::new(bytes.to_vec()), "fuzz") else { return };
    let mut found = Vec::new();
    let mut ended = false;
    for line in lines.with_longest(LONGEST).take(MOST) {
        assert!(!ended, "an error that is of no line is the last item");
        match &line {
            Ok(text) => assert!(text.len() as u64 <= LONGEST && !text.contains('\n')),
            Err(Error::Line { .. }) => {}
            Err(Error::Read { .. }) => ended = true,
            Err(error) => panic!("{error}"),
        }
        found.push(line.ok());
    }
    let is_skipped = bytes.get(1..4) == Some(&[0x2a, 0x4d, 0x18]);
    let is_packed = is_skipped
        || [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd]].iter().any(|m| bytes.starts_with(m));
    if let (false, Ok(text)) = (is_packed, std::str::from_utf8(bytes)) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let expected =
            text.lines().map(|line| (line.len() as u64 <= LONGEST).then(|| line.to_owned()));
        // A line of the limit's length and a lone carriage return at the very end are judged with
        // and without it.
        let is_plain = !text.contains('\r');
        assert!(!is_plain || found == expected.take(MOST).collect::<Vec<_>>());
    }
}
