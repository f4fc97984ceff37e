//! Writing `sentencepiece_model.proto` in the protobuf wire format.

use super::{BOS, EOS, Kind, PAD, TrainedModel, UNK, shape::LONGEST};

/// The bytes of a `ModelProto`.
pub(super) fn write(model: &TrainedModel) -> Vec<u8> {
    let mut file = Message::default();
    for piece in &model.pieces {
        let mut message = Message::default();
        message.bytes(1, piece.text.as_bytes());
        message.float(2, piece.score);
        message.varint(3, piece.kind.to_wire());
        file.bytes(1, &message.0);
    }
    file.bytes(2, &trainer_spec(model).0);
    file.bytes(3, &normalizer_spec().0);
    file.0
}

/// `TrainerSpec`: what was asked of the training.
fn trainer_spec(model: &TrainedModel) -> Message {
    let options = &model.options;
    let mut spec = Message::default();
    spec.varint(
        3,
        match options.kind {
            Kind::Unigram => 1,
            Kind::Bpe => 2,
        },
    );
    spec.varint(4, options.vocabulary as u64);
    spec.float(10, options.character_coverage as f32);
    spec.varint(14, options.seed_pieces as u64);
    spec.varint(18, options.longest_sentence as u64);
    spec.varint(20, LONGEST as u64);
    for symbol in &options.symbols {
        spec.bytes(31, symbol.as_bytes());
    }
    let special = options.special;
    let ids = [(40, Some(special.unk)), (41, special.bos), (42, special.eos), (43, special.pad)];
    for (number, id) in ids {
        // A piece that is left out has id -1.
        spec.varint(number, id.map_or(-1, i64::from) as u64);
    }
    for (number, name) in [(45, UNK), (46, BOS), (47, EOS), (48, PAD)] {
        spec.bytes(number, name.as_bytes());
    }
    spec
}

/// `NormalizerSpec`: no rules but those for spaces.
fn normalizer_spec() -> Message {
    let mut spec = Message::default();
    spec.bytes(1, b"identity");
    // add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
    for number in [3, 4, 5] {
        spec.varint(number, 1);
    }
    spec
}

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, number: u64, value: u64) {
        self.raw_varint(number << 3);
        self.raw_varint(value);
    }

    fn float(&mut self, number: u64, value: f32) {
        self.raw_varint(number << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, number: u64, value: &[u8]) {
        self.raw_varint(number << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
