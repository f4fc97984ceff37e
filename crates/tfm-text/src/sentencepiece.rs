//! SentencePiece models: text to pieces and back, equal to the `sentencepiece` package.
//!
//! Source: T. Kudo and J. Richardson, "SentencePiece: A simple and language independent subword
//! tokenizer" (2018); T. Kudo, "Subword Regularization" (2018) for Unigram; R. Sennrich et al.,
//! "Neural Machine Translation of Rare Words with Subword Units" (2016) for BPE.
//!
//! ```text
//! text ─ normalizer (charsmap) → normalised bytes ─ unigram | bpe → segments
//!      ─ unknown runs joined or spelt in bytes → pieces
//! ```

mod bpe;
mod charsmap;
mod decode;
pub(crate) mod normalizer;
pub(crate) mod proto;
mod sampling;
mod unigram;
mod utf8;
mod vocabulary;

use crate::{Error, trie::Trie};
use normalizer::Normalizer;
use proto::{ModelProto, PieceKind};
pub use sampling::Sampling;
pub(crate) use sampling::{Cut, Random};
use unigram::Unigram;
use vocabulary::Vocabulary;

/// The longest text encoded at once, in bytes. Viterbi takes 12 bytes for each byte of normalised
/// text.
pub const MAX_TEXT: usize = 64 << 20;

/// A loaded SentencePiece model (`.model`, `.spm`): Unigram or BPE.
#[derive(Debug)]
pub struct SentencePiece {
    vocabulary: Vocabulary,
    normalizer: Normalizer,
    denormalizer: Option<Normalizer>,
    algorithm: Algorithm,
    unk_surface: String,
    bos_id: Option<u32>,
    eos_id: Option<u32>,
    pad_id: Option<u32>,
}

#[derive(Debug)]
enum Algorithm {
    Unigram(Unigram),
    Bpe,
}

/// A stretch of the normalised text and the piece it is.
#[derive(Debug, Clone, Copy)]
struct Segment {
    id: u32,
    begin: u32,
    end: u32,
}

impl Segment {
    /// The segment of a longer text in which this one's begins at `by`.
    const fn moved(self, by: usize) -> Segment {
        Segment { id: self.id, begin: self.begin + by as u32, end: self.end + by as u32 }
    }
}

impl SentencePiece {
    /// Loads a model from the bytes of its file. `file` is the name that errors mention.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes are not a SentencePiece model, or one of a kind other than
    /// Unigram and BPE.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self, Error> {
        Self::parse(bytes).map_err(|fault| Error::Malformed {
            file: file.into(),
            format: "SentencePiece",
            fault,
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let model = ModelProto::parse(bytes)?;
        let trainer = &model.trainer;
        let vocabulary = Vocabulary::new(&model.pieces, trainer.byte_fallback)?;
        let algorithm = match trainer.model_type {
            1 => Algorithm::Unigram(Unigram::new(&vocabulary)),
            2 => Algorithm::Bpe,
            other => {
                let name = if other == 3 { "word" } else { "character" };
                return Err(format!("its model type is {name}; Unigram and BPE are supported"));
            }
        };
        let user_defined = model.pieces.iter().zip(0u32..).filter_map(|(piece, id)| {
            (piece.kind == PieceKind::UserDefined).then_some((piece.text, id))
        });
        let user_defined: Vec<_> = user_defined.collect();
        let user_defined = (!user_defined.is_empty()).then(|| Trie::new(user_defined));
        let control = |name: &[u8]| {
            let id = vocabulary.id(std::str::from_utf8(name).ok()?)?;
            (vocabulary.kind(id) == PieceKind::Control).then_some(id)
        };
        Ok(SentencePiece {
            bos_id: control(&trainer.bos_piece),
            eos_id: control(&trainer.eos_piece),
            pad_id: control(&trainer.pad_piece),
            normalizer: Normalizer::new(
                &model.normalizer,
                trainer.treat_whitespace_as_suffix,
                user_defined,
            )?,
            denormalizer: if model.denormalizer.precompiled_charsmap.is_empty() {
                None
            } else {
                Some(Normalizer::new(&model.denormalizer, false, None)?)
            },
            unk_surface: decode::unk_surface(model.trainer.unk_surface),
            vocabulary,
            algorithm,
        })
    }

    /// The ids of the pieces of `text`, with nothing added.
    ///
    /// # Errors
    /// [`Error::TextTooLong`] above [`MAX_TEXT`] bytes.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        self.for_each_piece(text, Cut::Best, |id, _| ids.push(id))?;
        Ok(ids)
    }

    /// The ids of a random cut of `text`: subword regularisation for Unigram, BPE-dropout for BPE.
    /// The same text, sampling and seed give the same ids; [`Sampling::OFF`] those of
    /// [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`Error::Option`] if a number is out of its range; [`Error::TextTooLong`].
    pub fn encode_sampled(
        &self,
        text: &str,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Vec<u32>, Error> {
        sampling.check()?;
        let mut ids = Vec::with_capacity(text.len() / 2 + 2);
        let cut = Cut::Random(sampling, &mut Random::new(seed));
        self.for_each_piece(text, cut, |id, _| ids.push(id))?;
        Ok(ids)
    }

    /// The pieces of `text`, as `SentencePieceProcessor.encode(text, out_type=str)` gives them.
    ///
    /// # Errors
    /// [`Error::TextTooLong`] above [`MAX_TEXT`] bytes.
    pub fn encode_pieces(&self, text: &str) -> Result<Vec<String>, Error> {
        let mut pieces = Vec::new();
        self.for_each_piece(text, Cut::Best, |_, piece| {
            pieces.push(String::from_utf8_lossy(piece).into_owned())
        })?;
        Ok(pieces)
    }

    /// Visits the pieces of `text` in order: id and bytes. The bytes of an unknown piece are the
    /// characters it covers; those of any other are the piece as the vocabulary writes it.
    pub(crate) fn for_each_piece(
        &self,
        text: &str,
        cut: Cut<'_>,
        mut visit: impl FnMut(u32, &[u8]),
    ) -> Result<(), Error> {
        if text.len() > MAX_TEXT {
            return Err(Error::TextTooLong { bytes: text.len(), limit: MAX_TEXT });
        }
        let normalized = self.normalizer.normalize(text.as_bytes());
        if u32::try_from(normalized.len()).is_err() {
            return Err(Error::TextTooLong { bytes: text.len(), limit: MAX_TEXT });
        }
        let segments = self.segments(&normalized, cut);
        let mut segments = segments.into_iter().peekable();
        while let Some(Segment { id, begin, mut end }) = segments.next() {
            if self.vocabulary.kind(id) != PieceKind::Unknown {
                visit(id, &normalized[begin as usize..end as usize]);
                continue;
            }
            while let Some(next) = segments.next_if(|next| next.id == id) {
                end = next.end;
            }
            let unknown = &normalized[begin as usize..end as usize];
            if self.vocabulary.byte_id(0).is_none() {
                visit(id, unknown);
                continue;
            }
            for id in unknown.iter().filter_map(|&byte| self.vocabulary.byte_id(byte)) {
                visit(id, self.vocabulary.text(id).unwrap_or_default().as_bytes());
            }
        }
        Ok(())
    }

    /// Cuts normalised text, whose length fits `u32`.
    fn segments(&self, text: &[u8], cut: Cut<'_>) -> Vec<Segment> {
        let (vocabulary, normalizer) = (&self.vocabulary, &self.normalizer);
        match (&self.algorithm, cut) {
            (Algorithm::Unigram(model), Cut::Random(Sampling { alpha, .. }, random))
                if alpha.is_finite() =>
            {
                sampling::unigram(model, vocabulary, normalizer, text, alpha, random)
            }
            (Algorithm::Unigram(model), _) => model.segment(vocabulary, text),
            (Algorithm::Bpe, Cut::Random(Sampling { dropout, .. }, random)) if dropout > 0.0 => {
                sampling::bpe(vocabulary, normalizer, text, dropout, random)
            }
            (Algorithm::Bpe, _) => bpe::segment(vocabulary, normalizer, text),
        }
    }

    /// The text of `ids`; see [`decode_pieces`](Self::decode_pieces).
    ///
    /// # Errors
    /// [`Error::UnknownId`] if an id is not below [`vocab_size`](Self::vocab_size).
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let unknown = |&&id: &&u32| self.vocabulary.text(id).is_none();
        if let Some(&id) = ids.iter().find(unknown) {
            return Err(Error::UnknownId { id, size: self.vocab_size() });
        }
        Ok(self.decode_pieces(ids.iter().filter_map(|&id| self.vocabulary.text(id))))
    }

    /// Number of pieces, special ones included.
    #[must_use]
    pub const fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The text of piece `id`, if there is one.
    #[must_use]
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.vocabulary.text(id)
    }

    /// The id of a piece, if it is in the vocabulary.
    #[must_use]
    pub fn piece_id(&self, piece: &str) -> Option<u32> {
        self.vocabulary.id(piece)
    }

    /// The id that unknown characters get.
    #[must_use]
    pub const fn unk_id(&self) -> u32 {
        self.vocabulary.unk_id()
    }

    /// The begin-of-sentence id, if the model has one.
    #[must_use]
    pub const fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// The end-of-sentence id, if the model has one.
    #[must_use]
    pub const fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// The padding id, if the model has one.
    #[must_use]
    pub const fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }

    /// Whether a piece is a control piece, which stands for no text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        (id as usize) < self.vocab_size() && self.vocabulary.kind(id) == PieceKind::Control
    }
}
