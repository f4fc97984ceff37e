//! The pieces of a model: their texts, kinds and scores, and the way from a text to its id.

use std::collections::HashMap;

use super::proto::{Piece, PieceKind};
use crate::trie::Trie;

/// The longest piece accepted, in bytes. Trained pieces have at most a few dozen; the bound keeps a
/// crafted file from making every character of a text a long walk.
const MAX_PIECE: usize = 1024;

#[derive(Debug)]
pub(super) struct Vocabulary {
    /// All texts, end to end.
    texts: String,
    /// Where each text ends.
    ends: Vec<usize>,
    kinds: Vec<PieceKind>,
    scores: Vec<f32>,
    /// Pieces that text can be cut into.
    normal: Trie,
    /// Control, unknown and byte pieces: only ever named, never found in a text.
    reserved: HashMap<String, u32>,
    unk_id: u32,
    /// The id of each byte's piece, where the model falls back to bytes.
    byte_ids: Option<Box<[u32; 256]>>,
}

impl Vocabulary {
    pub(super) fn new(pieces: &[Piece<'_>], byte_fallback: bool) -> Result<Self, String> {
        let mut texts = String::new();
        let mut ends = Vec::with_capacity(pieces.len());
        let mut normal = HashMap::with_capacity(pieces.len());
        let mut reserved = HashMap::new();
        let mut unk_id = None;
        let mut byte_ids = Box::new([None; 256]);
        if u32::try_from(pieces.len()).is_err() {
            return Err("more than 2^32 pieces".into());
        }
        for (piece, id) in pieces.iter().zip(0u32..) {
            let text =
                std::str::from_utf8(piece.text).map_err(|_| format!("piece {id} is not UTF-8"))?;
            if text.is_empty() {
                return Err(format!("piece {id} is empty"));
            }
            if text.len() > MAX_PIECE {
                return Err(format!("piece {id} has {} bytes, more than {MAX_PIECE}", text.len()));
            }
            texts.push_str(text);
            ends.push(texts.len());
            let taken = if is_normal(piece.kind) {
                normal.insert(piece.text, id).is_some()
            } else {
                reserved.insert(text.to_owned(), id).is_some()
            };
            if taken {
                return Err(format!("piece {id} ({text:?}) is there twice"));
            }
            match piece.kind {
                PieceKind::Unknown if unk_id.replace(id).is_some() => {
                    return Err(format!("piece {id} ({text:?}) is a second unknown piece"));
                }
                PieceKind::Byte if !byte_fallback => {
                    return Err(format!(
                        "piece {id} ({text:?}) is a byte, but byte_fallback is off"
                    ));
                }
                PieceKind::Byte => {
                    let byte = byte_of(text).ok_or_else(|| {
                        format!("piece {id} ({text:?}) is a byte, but not written <0x00> to <0xFF>")
                    })?;
                    byte_ids[usize::from(byte)] = Some(id);
                }
                _ => {}
            }
        }
        let byte_ids = if byte_fallback { Some(all_bytes(&byte_ids)?) } else { None };
        Ok(Vocabulary {
            texts,
            ends,
            kinds: pieces.iter().map(|piece| piece.kind).collect(),
            scores: pieces.iter().map(|piece| piece.score).collect(),
            normal: Trie::new(normal),
            reserved,
            unk_id: unk_id.ok_or("no piece stands for the unknown")?,
            byte_ids,
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) const fn unk_id(&self) -> u32 {
        self.unk_id
    }

    pub(super) const fn normal(&self) -> &Trie {
        &self.normal
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let begin = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.texts[begin..end])
    }

    /// The id of this very piece. Control, unknown and byte pieces come before normal ones of the
    /// same text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.reserved.get(text).copied().or_else(|| self.normal.get(text.as_bytes()))
    }

    #[inline]
    pub(super) fn kind(&self, id: u32) -> PieceKind {
        self.kinds[id as usize]
    }

    #[inline]
    pub(super) fn score(&self, id: u32) -> f32 {
        self.scores[id as usize]
    }

    /// The id of the piece that stands for one byte, if the model falls back to bytes.
    pub(super) fn byte_id(&self, byte: u8) -> Option<u32> {
        self.byte_ids.as_ref().map(|ids| ids[usize::from(byte)])
    }

    /// Scores of the normal pieces.
    pub(super) fn normal_scores(&self) -> impl Iterator<Item = f32> {
        let normal = self.kinds.iter().map(|&kind| kind == PieceKind::Normal);
        self.scores.iter().zip(normal).filter_map(|(&score, normal)| normal.then_some(score))
    }

    pub(super) fn has_unused(&self) -> bool {
        self.kinds.contains(&PieceKind::Unused)
    }
}

const fn is_normal(kind: PieceKind) -> bool {
    matches!(kind, PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused)
}

/// The byte that a piece such as `<0x0A>` stands for.
pub(super) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper_hex = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
    (digits.len() == 2 && digits.bytes().all(upper_hex))
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

fn all_bytes(found: &[Option<u32>; 256]) -> Result<Box<[u32; 256]>, String> {
    let mut ids = Box::new([0; 256]);
    for (byte, (id, found)) in ids.iter_mut().zip(found).enumerate() {
        *id = found
            .ok_or_else(|| format!("byte_fallback is on, but piece <0x{byte:02X}> is absent"))?;
    }
    Ok(ids)
}
