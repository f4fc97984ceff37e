//! A learned model: pieces by id, ready to be written or used.

use super::{EOS, Kind, Options, PAD, Scored, SpecialIds, UNK, proto};
use crate::{Error, SentencePiece, sentencepiece::proto::PieceKind};

/// A model that was learned, in memory.
#[derive(Debug, Clone)]
pub struct TrainedModel {
    pub(super) options: Options,
    pub(super) pieces: Vec<LearntPiece>,
}

/// A piece as the `.spm` file holds it.
#[derive(Debug, Clone)]
pub(super) struct LearntPiece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: PieceKind,
}

impl TrainedModel {
    /// Gives ids: special pieces theirs, and the rest in turn, symbols first.
    pub(super) fn new(options: Options, learnt: Vec<Scored>) -> Self {
        let symbols = options.symbols.iter().cloned();
        let symbols =
            symbols.map(|text| LearntPiece { text, score: 0.0, kind: PieceKind::UserDefined });
        let learnt = learnt.into_iter();
        let learnt =
            learnt.map(|(text, score)| LearntPiece { text, score, kind: PieceKind::Normal });
        let mut rest = symbols.chain(learnt);
        let special: Vec<_> = options.special.pieces().collect();
        let piece = |id: usize| match special.iter().find(|(_, at)| *at as usize == id) {
            Some(&(name, _)) => {
                let kind = if name == UNK { PieceKind::Unknown } else { PieceKind::Control };
                Some(LearntPiece { text: name.into(), score: 0.0, kind })
            }
            None => rest.next(),
        };
        let pieces = (0..options.vocabulary).map_while(piece).collect();
        TrainedModel { options, pieces }
    }

    /// The file (`.spm`, `.model`), which the `sentencepiece` package reads too.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        proto::write(self)
    }

    /// The model, ready to encode.
    ///
    /// # Errors
    /// None but for a fault of this crate: what was learned can be loaded.
    pub fn load(&self) -> Result<SentencePiece, Error> {
        SentencePiece::from_bytes(&self.to_bytes(), "the learned model")
    }

    /// The algorithm it was learned for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.options.kind
    }

    /// Number of pieces, special ones included.
    #[must_use]
    pub const fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// Texts and scores of all pieces by id: log-probabilities for Unigram, negated ranks for BPE,
    /// 0 for special pieces and symbols.
    pub fn pieces(&self) -> impl Iterator<Item = (&str, f32)> {
        self.pieces.iter().map(|piece| (piece.text.as_str(), piece.score))
    }

    /// The ids of the special pieces.
    #[must_use]
    pub const fn special(&self) -> SpecialIds {
        self.options.special
    }

    /// Pieces in the order of Marian's `vocab.json`: end and unknown first, padding last, and
    /// between them what text can be cut into.
    pub(super) fn in_marian_order(&self) -> impl Iterator<Item = LearntPiece> {
        let special = |text: &str, kind| LearntPiece { text: text.into(), score: 0.0, kind };
        let of_text = |kind| matches!(kind, PieceKind::Normal | PieceKind::UserDefined);
        [special(EOS, PieceKind::Control), special(UNK, PieceKind::Unknown)]
            .into_iter()
            .chain(self.pieces.iter().filter(move |piece| of_text(piece.kind)).cloned())
            .chain([special(PAD, PieceKind::Control)])
    }
}
