//! UTF-8 as SentencePiece steps through it: byte strings that may be malformed.

/// Length of the character that a lead byte announces; continuation bytes count as one.
#[inline]
pub(super) fn announced_len(lead: u8) -> usize {
    match lead {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// Length of the well-formed character at the start of `bytes`, if there is one.
#[inline]
pub(super) fn valid_len(bytes: &[u8]) -> Option<usize> {
    let lead = *bytes.first()?;
    if lead < 0x80 {
        return Some(1);
    }
    let len = announced_len(lead);
    std::str::from_utf8(bytes.get(..len)?).is_ok().then_some(len)
}
