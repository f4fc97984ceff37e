//! One tokeniser type over the formats that model directories come with.

mod framing;
mod guarded;
mod json;
mod languages;
mod marian;
mod plain;
mod sampling;
mod side;
mod words;

pub use framing::{Affixes, Framing};
pub use words::Word;

use crate::{Error, Files, Sampling};
use languages::Languages;
use side::Side;
use std::{borrow::Cow, path::Path, sync::Arc};

/// The tokeniser of an encoder-decoder model: two sides, which may be one, and what stands around
/// their texts.
///
/// | found in the directory | used |
/// |---|---|
/// | `source.spm` | Marian's: SentencePiece cuts the text, `vocab.json` gives the ids |
/// | else `tokenizer.json` | the `tokenizers` library |
/// | else `spiece.model` | SentencePiece with its own ids, closed by its end piece, as for T5 |
#[derive(Debug, Clone)]
pub struct Tokenizer {
    source: Arc<dyn Side>,
    target: Arc<dyn Side>,
    /// Where no language is asked for.
    framing: Framing,
    special: Special,
    /// The target languages, by the ids of their source tokens.
    languages: Languages,
}

/// The ids of the special tokens of the target side.
#[derive(Debug, Clone, Copy, Default)]
struct Special {
    unk: Option<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
}

impl Tokenizer {
    /// Loads the tokeniser of a model directory.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Io`] or [`Error::Malformed`], naming the file.
    pub fn from_dir(folder: &Path) -> Result<Self, Error> {
        Self::from_files(&Files::Folder(folder.to_owned()))
    }

    /// Loads a tokeniser from a folder or from memory.
    ///
    /// # Errors
    /// As [`from_dir`](Self::from_dir).
    pub fn from_files(files: &Files<'_>) -> Result<Self, Error> {
        if files.read(marian::FILE)?.is_some() {
            marian::load(files)
        } else if files.read(json::FILE)?.is_some() {
            json::load(files)
        } else if files.read(plain::FILE)?.is_some() {
            plain::load(files)
        } else {
            Err(Error::Missing {
                file: files.display(marian::FILE),
                remedy: "a model directory holds a tokeniser: source.spm with target.spm and vocab.json (Marian), tokenizer.json, or spiece.model (T5)".into(),
            })
        }
    }

    /// The same tokeniser for a model whose decoder begins with the token `start`: if the frame of
    /// a target begins with that token, it is taken from the frame, for the decoder doesn't write
    /// it.
    #[must_use]
    pub fn with_decoder_start(mut self, start: u32) -> Self {
        let before = &mut self.framing.target.before;
        if before.first() == Some(&start) {
            before.remove(0);
        }
        self
    }

    /// What stands around texts where no language is asked for.
    #[must_use]
    pub fn framing(&self) -> &Framing {
        &self.framing
    }

    /// What stands around texts where the target language is this one (`fra` or `>>fra<<`).
    ///
    /// # Errors
    /// [`Error::UnknownLanguage`], listing the languages there are.
    pub fn framing_to(&self, language: &str) -> Result<Framing, Error> {
        let mut framing = self.framing.clone();
        framing.source.before.insert(0, self.languages.id(language)?);
        Ok(framing)
    }

    /// The ids of a source text, with the special tokens that the model expects around it. For a
    /// multilingual Marian model the text begins with `>>code<<`; a code that the vocabulary lacks
    /// is the unknown token.
    ///
    /// # Errors
    /// [`Error::TextTooLong`] or [`Error::Pipeline`].
    pub fn encode_source(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_source_framed(text, &self.framing)
    }

    /// The ids of a source text in the frame that [`framing_to`](Self::framing_to) gives. A text
    /// that begins with a language's token keeps that language.
    ///
    /// # Errors
    /// As [`encode_source`](Self::encode_source).
    pub fn encode_source_framed(&self, text: &str, framing: &Framing) -> Result<Vec<u32>, Error> {
        let ids = self.source.encode(text, None)?;
        if !ids.first().is_some_and(|&id| self.languages.has(id)) {
            return Ok(framing.source.around(ids));
        }
        let mut affixes = framing.source.clone();
        affixes.before.retain(|&id| !self.languages.has(id));
        Ok(affixes.around(ids))
    }

    /// The ids of a target text, with the special tokens that the model learns to write.
    ///
    /// # Errors
    /// As [`encode_source`](Self::encode_source).
    pub fn encode_target(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.framing.target.around(self.target.encode(text, None)?))
    }

    /// The ids of the beginning of a target text: without the special tokens that close it. A text
    /// without words has none.
    ///
    /// # Errors
    /// As [`encode_source`](Self::encode_source).
    pub fn encode_target_prefix(&self, text: &str) -> Result<Vec<u32>, Error> {
        let ids = self.target.encode(text, None)?;
        if ids.is_empty() {
            return Ok(ids);
        }
        Ok(Affixes { after: Vec::new(), ..self.framing.target.clone() }.around(ids))
    }

    /// The ids of a random cut of a source text, as [`SentencePiece::encode_sampled`] draws it;
    /// with [`Sampling::OFF`], those of [`encode_source`](Self::encode_source).
    ///
    /// [`SentencePiece::encode_sampled`]: crate::SentencePiece::encode_sampled
    ///
    /// # Errors
    /// As [`encode_source`](Self::encode_source), and [`Error::Option`] if a number is out of its
    /// range or the tokeniser comes from a `tokenizer.json`, which cannot sample.
    pub fn encode_source_sampled(
        &self,
        text: &str,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Vec<u32>, Error> {
        Ok(self.framing.source.around(self.source.encode(text, drawn(sampling, seed)?)?))
    }

    /// The ids of a random cut of a target text.
    ///
    /// # Errors
    /// As [`encode_source_sampled`](Self::encode_source_sampled).
    pub fn encode_target_sampled(
        &self,
        text: &str,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Vec<u32>, Error> {
        Ok(self.framing.target.around(self.target.encode(text, drawn(sampling, seed)?)?))
    }

    /// The text of target ids, without special tokens, of which the unknown one is one, as
    /// `transformers` decodes with `skip_special_tokens`. Ids that the vocabulary lacks are left
    /// out.
    ///
    /// # Errors
    /// [`Error::Pipeline`] if the decoder that `tokenizer.json` describes fails.
    pub fn decode_target(&self, ids: &[u32]) -> Result<String, Error> {
        self.target.decode(ids)
    }

    /// The target languages that [`framing_to`](Self::framing_to) knows, sorted; none for a model
    /// that has one target language.
    pub fn languages(&self) -> impl ExactSizeIterator<Item = &str> {
        self.languages.codes()
    }

    /// The source token with this id, as the vocabulary writes it (`▁` for a space).
    #[must_use]
    pub fn source_token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.source.token(id)
    }

    /// The target token with this id, as the vocabulary writes it (`▁` for a space).
    #[must_use]
    pub fn target_token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.target.token(id)
    }

    /// The words of source ids, without languages, ends and the like. A word begins at
    /// SentencePiece's `▁`, and with a `tokenizer.json` where decoding puts a space.
    #[must_use]
    pub fn source_words(&self, ids: &[u32]) -> Vec<Word> {
        words::words(&*self.source, ids, |id| self.languages.has(id))
    }

    /// The words of target ids, as [`source_words`](Self::source_words) finds them.
    #[must_use]
    pub fn target_words(&self, ids: &[u32]) -> Vec<Word> {
        words::words(&*self.target, ids, |_| false)
    }

    /// How many source ids there are; the model's embedding has at least as many rows.
    #[must_use]
    pub fn source_vocab_size(&self) -> usize {
        self.source.vocab_size()
    }

    /// How many target ids there are.
    #[must_use]
    pub fn target_vocab_size(&self) -> usize {
        self.target.vocab_size()
    }

    /// The end-of-sentence id of target texts, if there is one.
    #[must_use]
    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos
    }

    /// The padding id, if there is one.
    #[must_use]
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad
    }

    /// The unknown id, if there is one.
    #[must_use]
    pub fn unk_id(&self) -> Option<u32> {
        self.special.unk
    }

    /// The begin-of-sentence id, if there is one.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }
}

/// How to draw a cut; none where the best one is wanted.
fn drawn(sampling: Sampling, seed: u64) -> Result<Option<(Sampling, u64)>, Error> {
    sampling.check()?;
    Ok((sampling != Sampling::OFF).then_some((sampling, seed)))
}
