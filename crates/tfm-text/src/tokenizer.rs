//! One tokeniser type over the formats that model directories come with.

use std::{borrow::Cow, path::Path};

use crate::{Error, Files, MarianTokenizer, Sampling, SentencePiece, TokenizerJson};

/// The tokeniser of an encoder-decoder model.
///
/// | found in the directory | used |
/// |---|---|
/// | `source.spm` | [`MarianTokenizer`] |
/// | else `tokenizer.json` | [`TokenizerJson`] |
/// | else `spiece.model` | [`SentencePiece`], closed by its end-of-sentence piece, as for T5 |
#[derive(Debug)]
pub struct Tokenizer(Kind);

#[derive(Debug)]
enum Kind {
    Marian(Box<MarianTokenizer>),
    Json(Box<TokenizerJson>),
    SentencePiece(Box<SentencePiece>),
}

const PLAIN_MODEL: &str = "spiece.model";

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
        let kind = if files.read("source.spm")?.is_some() {
            Kind::Marian(Box::new(MarianTokenizer::from_files(files)?))
        } else if files.read("tokenizer.json")?.is_some() {
            Kind::Json(Box::new(TokenizerJson::from_files(files)?))
        } else if let Some(bytes) = files.read(PLAIN_MODEL)? {
            ids_are_the_models_own(files)?;
            let spm = SentencePiece::from_bytes(&bytes, &files.display(PLAIN_MODEL))?;
            Kind::SentencePiece(Box::new(spm))
        } else {
            return Err(Error::Missing {
                file: files.display("source.spm"),
                remedy: "a model directory holds a tokeniser: source.spm with target.spm and vocab.json (Marian), tokenizer.json, or spiece.model (T5)".into(),
            });
        };
        Ok(Tokenizer(kind))
    }

    /// The ids of a source text, with the special tokens that the model expects around it. For a
    /// multilingual Marian model the text begins with `>>code<<`.
    ///
    /// # Errors
    /// [`Error::UnknownLanguage`], [`Error::TextTooLong`] or [`Error::Pipeline`].
    pub fn encode_source(&self, text: &str) -> Result<Vec<u32>, Error> {
        match &self.0 {
            Kind::Marian(marian) => marian.encode_source(text),
            Kind::Json(json) => json.encode(text, true),
            Kind::SentencePiece(spm) => encode_with_eos(spm, text),
        }
    }

    /// The ids of a target text, with the special tokens that the model learns to write.
    ///
    /// # Errors
    /// As [`encode_source`](Self::encode_source).
    pub fn encode_target(&self, text: &str) -> Result<Vec<u32>, Error> {
        match &self.0 {
            Kind::Marian(marian) => marian.encode_target(text),
            Kind::Json(json) => json.encode(text, true),
            Kind::SentencePiece(spm) => encode_with_eos(spm, text),
        }
    }

    /// The ids of a random cut of a source text, as [`SentencePiece::encode_sampled`] draws it; with
    /// [`Sampling::OFF`], those of [`encode_source`](Self::encode_source).
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
        match &self.0 {
            Kind::Marian(marian) => marian.encode_source_sampled(text, sampling, seed),
            _ => self.encode_either_sampled(text, sampling, seed),
        }
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
        match &self.0 {
            Kind::Marian(marian) => marian.encode_target_sampled(text, sampling, seed),
            _ => self.encode_either_sampled(text, sampling, seed),
        }
    }

    /// A random cut by a tokeniser that does the same on both sides.
    fn encode_either_sampled(
        &self,
        text: &str,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Vec<u32>, Error> {
        match &self.0 {
            Kind::SentencePiece(spm) => {
                let mut ids = spm.encode_sampled(text, sampling, seed)?;
                ids.extend(spm.eos_id());
                Ok(ids)
            }
            _ if sampling == Sampling::OFF => self.encode_source(text),
            _ => Err(Error::Option {
                option: "sampling",
                problem: "tokenizer.json cannot sample; use a model with its .spm, or none".into(),
            }),
        }
    }

    /// The text of target ids, without special tokens. Ids that the vocabulary lacks are left out.
    ///
    /// # Errors
    /// [`Error::Pipeline`] if the decoder that `tokenizer.json` describes fails.
    pub fn decode_target(&self, ids: &[u32]) -> Result<String, Error> {
        match &self.0 {
            Kind::Marian(marian) => Ok(marian.decode_target(ids)),
            Kind::Json(json) => json.decode(ids, true),
            Kind::SentencePiece(spm) => {
                let shown = ids.iter().filter(|&&id| id != spm.unk_id());
                Ok(spm.decode_pieces(shown.filter_map(|&id| spm.piece(id))))
            }
        }
    }

    /// The source id of the token that asks for a target language (`fra` or `>>fra<<`).
    ///
    /// # Errors
    /// [`Error::UnknownLanguage`], listing the languages there are.
    pub fn language_id(&self, language: &str) -> Result<u32, Error> {
        match &self.0 {
            Kind::Marian(marian) => marian.language_id(language),
            _ => Err(Error::UnknownLanguage { language: language.into(), available: Vec::new() }),
        }
    }

    /// The languages that [`language_id`](Self::language_id) knows, sorted.
    #[must_use]
    pub fn languages(&self) -> &[String] {
        match &self.0 {
            Kind::Marian(marian) => marian.languages(),
            _ => &[],
        }
    }

    /// The source token with this id, as the vocabulary writes it (`▁` for a space).
    #[must_use]
    pub fn source_token(&self, id: u32) -> Option<Cow<'_, str>> {
        match &self.0 {
            Kind::Marian(marian) => marian.source_token(id).map(Cow::Borrowed),
            Kind::Json(json) => json.token(id).map(Cow::Owned),
            Kind::SentencePiece(spm) => spm.piece(id).map(Cow::Borrowed),
        }
    }

    /// The target token with this id, as the vocabulary writes it (`▁` for a space).
    #[must_use]
    pub fn target_token(&self, id: u32) -> Option<Cow<'_, str>> {
        match &self.0 {
            Kind::Marian(marian) => marian.target_token(id).map(Cow::Borrowed),
            _ => self.source_token(id),
        }
    }

    /// How many source ids there are; the model's embedding has at least as many rows.
    #[must_use]
    pub fn source_vocab_size(&self) -> usize {
        match &self.0 {
            Kind::Marian(marian) => marian.source_vocab_size(),
            Kind::Json(json) => json.vocab_size(),
            Kind::SentencePiece(spm) => spm.vocab_size(),
        }
    }

    /// How many target ids there are.
    #[must_use]
    pub fn target_vocab_size(&self) -> usize {
        match &self.0 {
            Kind::Marian(marian) => marian.target_vocab_size(),
            _ => self.source_vocab_size(),
        }
    }

    /// The end-of-sentence id of target texts, if there is one.
    #[must_use]
    pub fn eos_id(&self) -> Option<u32> {
        match &self.0 {
            Kind::Marian(marian) => Some(marian.eos_id()),
            Kind::Json(json) => json.eos_id(),
            Kind::SentencePiece(spm) => spm.eos_id(),
        }
    }

    /// The padding id, if there is one.
    #[must_use]
    pub fn pad_id(&self) -> Option<u32> {
        match &self.0 {
            Kind::Marian(marian) => Some(marian.pad_id()),
            Kind::Json(json) => json.pad_id(),
            Kind::SentencePiece(spm) => spm.pad_id(),
        }
    }

    /// The unknown id, if there is one.
    #[must_use]
    pub fn unk_id(&self) -> Option<u32> {
        match &self.0 {
            Kind::Marian(marian) => Some(marian.unk_id()),
            Kind::Json(json) => json.unk_id(),
            Kind::SentencePiece(spm) => Some(spm.unk_id()),
        }
    }

    /// The begin-of-sentence id, if there is one.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        match &self.0 {
            Kind::Marian(_) => None,
            Kind::Json(json) => json.bos_id(),
            Kind::SentencePiece(spm) => spm.bos_id(),
        }
    }
}

fn encode_with_eos(spm: &SentencePiece, text: &str) -> Result<Vec<u32>, Error> {
    let mut ids = spm.encode(text)?;
    ids.extend(spm.eos_id());
    Ok(ids)
}

/// Refuses a bare SentencePiece model whose family shifts the ids (Pegasus, mBART, …): its ids
/// would be wrong.
fn ids_are_the_models_own(files: &Files<'_>) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Class {
        tokenizer_class: Option<String>,
    }
    let Some(config) = files.read("tokenizer_config.json")? else { return Ok(()) };
    let class = serde_json::from_slice::<Class>(&config).ok().and_then(|c| c.tokenizer_class);
    match class {
        Some(class) if !class.starts_with("T5Tokenizer") => Err(Error::Missing {
            file: files.display("tokenizer.json"),
            remedy: format!(
                "{class} does not take its ids from {PLAIN_MODEL} alone; save the tokeniser with `transformers` to get the file"
            ),
        }),
        _ => Ok(()),
    }
}
