//! Pieces back to text.

use super::{
    SentencePiece, normalizer::LeadingSpace, proto::PieceKind, utf8::valid_len, vocabulary::byte_of,
};

const SPACE_SYMBOL: char = '▁';
const DEFAULT_UNK_SURFACE: &str = " \u{2047} ";

impl SentencePiece {
    /// Joins pieces to text, as `SentencePieceProcessor.decode_pieces` does: `▁` becomes a space,
    /// except at the beginning; control pieces vanish; runs of byte pieces are read as UTF-8 (a
    /// byte that is not becomes U+FFFD); the unknown piece becomes the model's surface for it (` ⁇
    /// `); a piece that the model does not know stays as it is.
    pub fn decode_pieces<'p>(&self, pieces: impl IntoIterator<Item = &'p str>) -> String {
        let mut text = String::new();
        let mut bytes = Vec::new();
        let mut at_beginning = true;
        let mut dropped_space = false;
        for piece in pieces {
            let id = self.vocabulary.id(piece).unwrap_or(self.vocabulary.unk_id());
            let kind = self.vocabulary.kind(id);
            if kind == PieceKind::Byte {
                bytes.extend(byte_of(piece));
                continue;
            }
            flush_bytes(&mut bytes, &mut text);
            if dropped_space || !text.is_empty() {
                at_beginning = false;
            }
            dropped_space = false;
            match kind {
                PieceKind::Control => {}
                PieceKind::Unknown if self.vocabulary.text(id) == Some(piece) => {
                    text.push_str(&self.unk_surface);
                }
                PieceKind::Unknown => text.push_str(piece),
                _ => {
                    let leading = self.normalizer.leading_space();
                    let piece = match piece.strip_prefix(SPACE_SYMBOL) {
                        Some(rest) if at_beginning && leading != LeadingSpace::Keep => {
                            dropped_space = leading == LeadingSpace::DropOne;
                            rest
                        }
                        _ => piece,
                    };
                    text.extend(piece.chars().map(|c| if c == SPACE_SYMBOL { ' ' } else { c }));
                }
            }
        }
        flush_bytes(&mut bytes, &mut text);
        match &self.denormalizer {
            Some(denormalizer) => {
                String::from_utf8_lossy(&denormalizer.normalize(text.as_bytes())).into_owned()
            }
            None => text,
        }
    }
}

/// The text of the unknown piece.
pub(super) fn unk_surface(given: Option<Vec<u8>>) -> String {
    match given {
        Some(surface) => String::from_utf8_lossy(&surface).into_owned(),
        None => DEFAULT_UNK_SURFACE.into(),
    }
}

/// Appends a run of byte pieces; each byte that belongs to no character becomes U+FFFD.
fn flush_bytes(bytes: &mut Vec<u8>, text: &mut String) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let len = valid_len(rest);
        match len.and_then(|len| std::str::from_utf8(&rest[..len]).ok()) {
            Some(character) => text.push_str(character),
            None => text.push(char::REPLACEMENT_CHARACTER),
        }
        rest = &rest[len.unwrap_or(1)..];
    }
    bytes.clear();
}
