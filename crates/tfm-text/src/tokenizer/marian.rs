//! The tokeniser of Marian and OPUS-MT models: SentencePiece cuts the text, `vocab.json` gives the
//! ids.
//!
//! Equal to `MarianTokenizer` of Hugging Face `transformers` 5.23, with these notes:
//! - Moses punctuation normalisation, which `transformers` can apply where the `sacremoses` package
//!   is installed, is not part of tokenisation there either; none is done here.
//! - With separate vocabularies, the special ids of the target side are looked up in the target
//!   vocabulary. `transformers` uses the source's for both; converted checkpoints agree on them
//!   except perhaps for padding.

mod added;
mod config;

use super::{
    Affixes, Framing, Languages, Special, Tokenizer, sampling,
    side::Side,
    words::{is_marked, of_pieces},
};
use crate::{
    Error, Files, Sampling, SentencePiece, Vocab,
    sentencepiece::{Cut, Random},
    whitespace::strip,
};
use added::{AddedTokens, Part};
use config::{Config, Token, text_or};
use std::{borrow::Cow, sync::Arc};

/// The file that tells that a tokeniser is Marian's.
pub(super) const FILE: &str = "source.spm";

const SPM_REMEDY: &str = "a Marian model directory holds source.spm, target.spm and vocab.json; copy it from the repository the model came from";

/// Loads `source.spm`, `target.spm`, `vocab.json` (and `target_vocab.json` where `separate_vocabs`
/// is set), with `tokenizer_config.json` and `special_tokens_map.json` where they are.
///
/// # Errors
/// [`Error::Missing`], [`Error::Io`] or [`Error::Malformed`], naming the file.
pub(super) fn load(files: &Files<'_>) -> Result<Tokenizer, Error> {
    let config = Config::read(files)?;
    sampling::refuse(files)?;
    let source_model = files.require(FILE, SPM_REMEDY)?;
    let target_model = files.require("target.spm", SPM_REMEDY)?;
    let source_spm = Arc::new(SentencePiece::from_bytes(&source_model, &files.display(FILE))?);
    // A joint model is the same file twice.
    let target_spm = if source_model == target_model {
        source_spm.clone()
    } else {
        Arc::new(SentencePiece::from_bytes(&target_model, &files.display("target.spm"))?)
    };
    let source_vocab = Arc::new(Vocabulary::load("vocab.json", SPM_REMEDY, files, &config)?);
    let target_vocab = if config.separate_vocabs == Some(true) {
        let remedy = "tokenizer_config.json says separate_vocabs; copy the file or say false";
        Arc::new(Vocabulary::load("target_vocab.json", remedy, files, &config)?)
    } else {
        source_vocab.clone()
    };
    let closed = |vocab: &Vocabulary| Affixes { before: Vec::new(), after: vec![vocab.eos] };
    let framing = Framing { source: closed(&source_vocab), target: closed(&target_vocab) };
    let Vocabulary { unk, eos, pad, .. } = *target_vocab;
    let clean_up = config.clean_up_tokenization_spaces.unwrap_or(false);
    Ok(Tokenizer {
        languages: source_vocab.languages(),
        source: Arc::new(MarianSide::new(source_spm, source_vocab, clean_up)),
        target: Arc::new(MarianSide::new(target_spm, target_vocab, clean_up)),
        framing,
        special: Special { unk: Some(unk), bos: None, eos: Some(eos), pad: Some(pad) },
    })
}

/// One side: SentencePiece's pieces by the ids of a vocabulary.
#[derive(Debug)]
struct MarianSide {
    spm: Arc<SentencePiece>,
    vocab: Arc<Vocabulary>,
    /// The vocabulary's id of every SentencePiece id.
    ids: Vec<u32>,
    /// Whether decoding removes the spaces before English punctuation.
    clean_up: bool,
}

/// A vocabulary with its special and added tokens.
#[derive(Debug)]
struct Vocabulary {
    tokens: Vocab,
    added: AddedTokens,
    unk: u32,
    eos: u32,
    pad: u32,
    /// Every id that decoding skips, sorted: these three and the additional ones.
    skipped: Vec<u32>,
}

impl MarianSide {
    fn new(spm: Arc<SentencePiece>, vocab: Arc<Vocabulary>, clean_up: bool) -> Self {
        let pieces = (0..spm.vocab_size() as u32).map_while(|id| spm.piece(id));
        let ids = pieces.map(|piece| vocab.id(piece).unwrap_or(vocab.unk)).collect();
        MarianSide { spm, vocab, ids, clean_up }
    }

    fn encode_text(&self, text: &str, cut: Cut<'_>, ids: &mut Vec<u32>) -> Result<(), Error> {
        let unknown = self.spm.unk_id();
        self.spm.for_each_piece(text, cut, |id, piece| {
            ids.push(if id == unknown {
                // The vocabulary may know what this side's SentencePiece does not.
                let known = std::str::from_utf8(piece).ok().and_then(|piece| self.vocab.id(piece));
                known.unwrap_or(self.vocab.unk)
            } else {
                self.ids[id as usize]
            });
        })
    }
}

impl Side for MarianSide {
    fn encode(&self, text: &str, sampling: Option<(Sampling, u64)>) -> Result<Vec<u32>, Error> {
        let mut random = sampling.map(|(sampling, seed)| (sampling, Random::new(seed)));
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        for part in self.vocab.added.split(text) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => {
                    let (code, text) = split_language_code(text);
                    ids.extend(code.map(|code| self.vocab.id(code).unwrap_or(self.vocab.unk)));
                    let cut = match &mut random {
                        None => Cut::Best,
                        Some((sampling, random)) => Cut::Random(*sampling, random),
                    };
                    self.encode_text(text, cut, &mut ids)?;
                }
            }
        }
        Ok(ids)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let shown = ids.iter().filter(|id| self.vocab.skipped.binary_search(id).is_err());
        let text = self.spm.decode_pieces(shown.filter_map(|&id| self.vocab.tokens.token(id)));
        let text = text.replace('▁', " ");
        let text = strip(&text);
        Ok(if self.clean_up { clean_up_spaces(text) } else { text.to_owned() })
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.vocab.tokens.token(id).map(Cow::Borrowed)
    }

    fn is_text(&self, id: u32) -> bool {
        let is_special = self.vocab.skipped.binary_search(&id).is_ok();
        self.vocab.tokens.token(id).is_some() && (!is_special || id == self.vocab.unk)
    }

    fn begins_word(&self, word: &[u32], id: u32) -> bool {
        let piece = |id: u32| self.vocab.tokens.token(id).unwrap_or_default();
        is_marked(word.last().map_or("", |&last| piece(last)), piece(id))
    }

    fn word(&self, ids: &[u32]) -> String {
        let unknown = self.vocab.tokens.token(self.vocab.unk).unwrap_or_default();
        let pieces = ids.iter().filter_map(|&id| self.vocab.tokens.token(id));
        of_pieces(pieces, unknown, |known| self.spm.decode_pieces(known.iter().copied()))
    }

    fn vocab_size(&self) -> usize {
        self.vocab.tokens.size()
    }
}

impl Vocabulary {
    fn load(name: &str, remedy: &str, files: &Files<'_>, config: &Config) -> Result<Self, Error> {
        let file = files.display(name);
        let tokens = Vocab::from_json(&files.require(name, remedy)?, &file)?;
        Self::with_special_tokens(tokens, config, &file)
    }

    /// Gives the special tokens ids: those they have, else new ones at the end.
    fn with_special_tokens(mut tokens: Vocab, config: &Config, file: &str) -> Result<Self, Error> {
        let unk_token = text_or(&config.unk_token, "<unk>");
        let unk = tokens.id(unk_token).ok_or_else(|| Error::Malformed {
            file: file.into(),
            format: "vocabulary",
            fault: format!("the unknown token {unk_token:?} is not in it"),
        })?;
        let declared: Vec<&Token> =
            config.added_tokens_decoder.iter().flat_map(|d| d.values()).collect();
        let additional = config.additional_special_tokens.iter().flatten();
        let eos = tokens.add(text_or(&config.eos_token, "</s>"));
        let pad = tokens.add(text_or(&config.pad_token, "<pad>"));
        let mut skipped = vec![unk, eos, pad];
        let mut added = Vec::new();
        for token in declared.iter().copied().chain(additional) {
            if token.content.is_empty() {
                continue;
            }
            let id = tokens.add(&token.content);
            if token.special {
                skipped.push(id);
            }
            added.push((token.clone(), id));
        }
        for (content, id) in [
            (text_or(&config.unk_token, "<unk>"), unk),
            (text_or(&config.eos_token, "</s>"), eos),
            (text_or(&config.pad_token, "<pad>"), pad),
        ] {
            if added.iter().all(|(token, _)| token.content != content) {
                let token =
                    Token { content: content.into(), lstrip: false, rstrip: false, special: true };
                added.push((token, id));
            }
        }
        skipped.sort_unstable();
        skipped.dedup();
        Ok(Vocabulary { tokens, added: AddedTokens::new(added), unk, eos, pad, skipped })
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.added.id(token).or_else(|| self.tokens.id(token))
    }

    /// The languages that tokens such as `>>fra<<` name.
    fn languages(&self) -> Languages {
        Languages::new(self.tokens.tokens().filter_map(|token| {
            let code = token.strip_prefix(">>")?.strip_suffix("<<")?;
            (!code.is_empty()).then_some((code.to_owned(), token.to_owned(), self.id(token)?))
        }))
    }
}

/// Splits off a `>>code<<` at the very beginning.
fn split_language_code(text: &str) -> (Option<&str>, &str) {
    match text.find("<<") {
        Some(end) if text.starts_with(">>") => {
            let (code, rest) = text.split_at(end + 2);
            (Some(code), rest)
        }
        _ => (None, text),
    }
}

/// What `clean_up_tokenization_spaces` asks for: the spaces before English punctuation and
/// contractions removed.
fn clean_up_spaces(text: &str) -> String {
    const RULES: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
