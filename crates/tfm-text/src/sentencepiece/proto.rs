//! The few messages of `sentencepiece_model.proto` that a tokeniser needs, read from the protobuf
//! wire format.
//!
//! As in any protobuf reader, unknown fields are skipped, a repeated scalar keeps its last value
//! and a repeated message is merged. Memory stays proportional to the file.

/// `ModelProto`
#[derive(Debug, Default)]
pub(crate) struct ModelProto<'a> {
    pub(crate) pieces: Vec<Piece<'a>>,
    pub(crate) trainer: TrainerSpec,
    pub(crate) normalizer: NormalizerSpec,
    pub(crate) denormalizer: NormalizerSpec,
}

/// `ModelProto.SentencePiece`
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) score: f32,
    pub(crate) kind: PieceKind,
}

/// `ModelProto.SentencePiece.Type`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// `TrainerSpec`, as far as it matters after training.
#[derive(Debug)]
pub(crate) struct TrainerSpec {
    /// `TrainerSpec.ModelType`: 1 Unigram, 2 BPE, 3 word, 4 character.
    pub(crate) model_type: u64,
    pub(crate) treat_whitespace_as_suffix: bool,
    pub(crate) byte_fallback: bool,
    pub(crate) unk_surface: Option<Vec<u8>>,
    pub(crate) bos_piece: Vec<u8>,
    pub(crate) eos_piece: Vec<u8>,
    pub(crate) pad_piece: Vec<u8>,
}

impl Default for TrainerSpec {
    fn default() -> Self {
        TrainerSpec {
            model_type: 1,
            treat_whitespace_as_suffix: false,
            byte_fallback: false,
            unk_surface: None,
            bos_piece: b"<s>".to_vec(),
            eos_piece: b"</s>".to_vec(),
            pad_piece: b"<pad>".to_vec(),
        }
    }
}

/// `NormalizerSpec`
#[derive(Debug)]
pub(crate) struct NormalizerSpec {
    pub(crate) precompiled_charsmap: Vec<u8>,
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) escape_whitespaces: bool,
}

impl Default for NormalizerSpec {
    fn default() -> Self {
        NormalizerSpec {
            precompiled_charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }
}

type Fault = &'static str;

impl<'a> ModelProto<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut model = ModelProto::default();
        for_each_field(bytes, |field| {
            match field {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Value::Bytes(spec)) => model.trainer.merge(spec)?,
                (3, Value::Bytes(spec)) => model.normalizer.merge(spec)?,
                (5, Value::Bytes(spec)) => model.denormalizer.merge(spec)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(model)
    }
}

impl<'a> Piece<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut piece = Piece { text: b"", score: 0.0, kind: PieceKind::Normal };
        for_each_field(bytes, |field| {
            match field {
                (1, Value::Bytes(text)) => piece.text = text,
                (2, Value::Fixed32(bits)) => piece.score = f32::from_bits(bits),
                (3, Value::Varint(kind)) => {
                    piece.kind = PieceKind::from_wire(kind).unwrap_or(piece.kind)
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(piece)
    }
}

impl PieceKind {
    /// The number that the wire format gives to this kind.
    pub(crate) const fn to_wire(self) -> u64 {
        match self {
            PieceKind::Normal => 1,
            PieceKind::Unknown => 2,
            PieceKind::Control => 3,
            PieceKind::UserDefined => 4,
            PieceKind::Unused => 5,
            PieceKind::Byte => 6,
        }
    }

    const fn from_wire(number: u64) -> Option<Self> {
        Some(match number {
            1 => PieceKind::Normal,
            2 => PieceKind::Unknown,
            3 => PieceKind::Control,
            4 => PieceKind::UserDefined,
            5 => PieceKind::Unused,
            6 => PieceKind::Byte,
            _ => return None,
        })
    }
}

impl TrainerSpec {
    fn merge(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for_each_field(bytes, |field| {
            match field {
                (3, Value::Varint(model_type @ 1..=4)) => self.model_type = model_type,
                (24, Value::Varint(flag)) => self.treat_whitespace_as_suffix = flag != 0,
                (35, Value::Varint(flag)) => self.byte_fallback = flag != 0,
                (44, Value::Bytes(text)) => self.unk_surface = Some(text.to_vec()),
                // An empty name means the usual one.
                (46, Value::Bytes(text)) if !text.is_empty() => self.bos_piece = text.to_vec(),
                (47, Value::Bytes(text)) if !text.is_empty() => self.eos_piece = text.to_vec(),
                (48, Value::Bytes(text)) if !text.is_empty() => self.pad_piece = text.to_vec(),
                _ => {}
            }
            Ok(())
        })
    }
}

impl NormalizerSpec {
    fn merge(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for_each_field(bytes, |field| {
            match field {
                (2, Value::Bytes(blob)) => self.precompiled_charsmap = blob.to_vec(),
                (3, Value::Varint(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Value::Varint(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Value::Varint(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
            Ok(())
        })
    }
}

/// One value of the wire format.
enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// Eight bytes or the marks of a group: no field of ours has such a type.
    Other,
}

/// Hands every `(field number, value)` of a message to `visit`.
fn for_each_field<'a>(
    mut bytes: &'a [u8],
    mut visit: impl FnMut((u64, Value<'a>)) -> Result<(), Fault>,
) -> Result<(), Fault> {
    // The inside of a group belongs to a field we do not know.
    let mut open_groups = 0u32;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => {
                take::<8>(&mut bytes)?;
                Value::Other
            }
            2 => {
                let len = varint(&mut bytes)?;
                let (value, rest) = usize::try_from(len)
                    .ok()
                    .and_then(|len| bytes.split_at_checked(len))
                    .ok_or("a field announces more bytes than the file has")?;
                bytes = rest;
                Value::Bytes(value)
            }
            3 => {
                open_groups = open_groups.checked_add(1).ok_or("groups nest too deeply")?;
                Value::Other
            }
            4 => {
                open_groups = open_groups.checked_sub(1).ok_or("a group ends that never began")?;
                Value::Other
            }
            5 => Value::Fixed32(u32::from_le_bytes(take(&mut bytes)?)),
            _ => return Err("a field has a wire type that protobuf does not define"),
        };
        if open_groups == 0 {
            visit((key >> 3, value))?;
        }
    }
    if open_groups > 0 { Err("a group never ends") } else { Ok(()) }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number runs over ten bytes")
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (head, rest) = bytes.split_first_chunk().ok_or("the file ends in the middle of a field")?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pieces_and_specs() {
        let bytes = [
            // pieces { piece: "ab", score: -1, type: CONTROL }
            &[0x0a, 11, 0x0a, 2, b'a', b'b', 0x15, 0, 0, 0x80, 0xbf, 0x18, 3][..],
            // trainer_spec { model_type: BPE } trainer_spec { byte_fallback: true }
            &[0x12, 2, 0x18, 2, 0x12, 3, 0x98, 0x02, 1],
            // an unknown group around what would be a piece
            &[0x7b, 0x0a, 0, 0x7c],
        ]
        .concat();
        let model = ModelProto::parse(&bytes).unwrap();
        assert_eq!(model.pieces.len(), 1);
        assert_eq!(model.pieces[0].text, b"ab");
        assert_eq!(model.pieces[0].score, -1.0);
        assert_eq!(model.pieces[0].kind, PieceKind::Control);
        assert_eq!(model.trainer.model_type, 2);
        assert!(model.trainer.byte_fallback);
    }

    #[test]
    fn every_truncation_inside_a_field_is_an_error() {
        let whole = [0x0a, 11, 0x0a, 2, b'a', b'b', 0x15, 0, 0, 0x80, 0xbf, 0x18, 3];
        for len in 1..whole.len() {
            assert!(ModelProto::parse(&whole[..len]).is_err(), "first {len} bytes");
        }
    }

    #[test]
    fn lengths_and_varints_are_bounded() {
        assert!(
            ModelProto::parse(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])
                .is_err()
        );
        assert!(ModelProto::parse(&[0xff; 32]).is_err());
        assert!(ModelProto::parse(&[0x7c]).is_err());
        assert!(ModelProto::parse(&[0x7b]).is_err());
    }
}
