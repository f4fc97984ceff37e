//! The tokeniser of Marian and OPUS-MT models: SentencePiece cuts the text, `vocab.json` gives the
//! ids.
//!
//! Equal to `MarianTokenizer` of Hugging Face `transformers` 5.23, with these notes:
//! - Moses punctuation normalisation, which `transformers` can apply where the `sacremoses` package
//!   is installed, is not part of tokenisation there either; none is done here.
//! - A `>>code<<` prefix that a multilingual vocabulary lacks is an error; `transformers` makes it
//!   the unknown token.
//! - With separate vocabularies, the special ids of the target side are looked up in the target
//!   vocabulary. `transformers` uses the source's for both; converted checkpoints agree on them
//!   except perhaps for padding.

mod added;
mod config;

use std::sync::Arc;

use crate::{
    Error, Files, Sampling, SentencePiece, Vocab,
    sentencepiece::{Cut, Random},
    whitespace::strip,
};
use added::{AddedTokens, Part};
use config::{Config, Token, text_or};

/// Marian's tokeniser: a source side, a target side, and the tokens that name languages.
#[derive(Debug)]
pub struct MarianTokenizer {
    source: Side,
    target: Side,
    /// Codes without `>>` and `<<`, sorted.
    languages: Vec<String>,
    clean_up: bool,
}

/// One language side.
#[derive(Debug)]
struct Side {
    spm: Arc<SentencePiece>,
    vocab: Arc<Vocab>,
    added: Arc<AddedTokens>,
    /// The vocabulary id of every SentencePiece id.
    ids: Vec<u32>,
    special: Special,
}

#[derive(Debug, Clone)]
struct Special {
    unk: u32,
    eos: u32,
    pad: u32,
    /// Every id that decoding skips, sorted: these three and the additional ones.
    all: Vec<u32>,
}

const SPM_REMEDY: &str = "a Marian model directory holds source.spm, target.spm and vocab.json; copy it from the repository the model came from";

impl MarianTokenizer {
    /// Loads `source.spm`, `target.spm`, `vocab.json` (and `target_vocab.json` where
    /// `separate_vocabs` is set), with `tokenizer_config.json` and `special_tokens_map.json` where
    /// they are.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Io`] or [`Error::Malformed`], naming the file.
    pub fn from_files(files: &Files<'_>) -> Result<Self, Error> {
        let config = Config::read(files)?;
        let source_model = files.require("source.spm", SPM_REMEDY)?;
        let target_model = files.require("target.spm", SPM_REMEDY)?;
        let source_spm = SentencePiece::from_bytes(&source_model, &files.display("source.spm"))?;
        let source_spm = Arc::new(source_spm);
        // A joint model is the same file twice.
        let target_spm = if source_model == target_model {
            Arc::clone(&source_spm)
        } else {
            let target_spm =
                SentencePiece::from_bytes(&target_model, &files.display("target.spm"))?;
            Arc::new(target_spm)
        };
        let load_vocab = |name, remedy| -> Result<_, Error> {
            let file = files.display(name);
            let mut vocab = Vocab::from_json(&files.require(name, remedy)?, &file)?;
            let (special, added) = add_special_tokens(&mut vocab, &config, &file)?;
            Ok((Arc::new(vocab), Arc::new(added), special))
        };
        let source = load_vocab("vocab.json", SPM_REMEDY)?;
        let languages = languages(&source.0);
        let target = if config.separate_vocabs == Some(true) {
            load_vocab(
                "target_vocab.json",
                "tokenizer_config.json says separate_vocabs; copy the file or say false",
            )?
        } else {
            source.clone()
        };
        Ok(MarianTokenizer {
            source: Side::new(source_spm, source),
            target: Side::new(target_spm, target),
            languages,
            clean_up: config.clean_up_tokenization_spaces.unwrap_or(false),
        })
    }

    /// The ids of a source sentence, closed by the end-of-sentence id. The sentence may begin with
    /// a language token (`>>fra<<`).
    ///
    /// # Errors
    /// [`Error::UnknownLanguage`] if it begins with the token of a language that this multilingual
    /// model lacks; [`Error::TextTooLong`].
    pub fn encode_source(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode(&self.source, text, None)
    }

    /// The ids of a target sentence, closed by the end-of-sentence id.
    ///
    /// # Errors
    /// As [`encode_source`](Self::encode_source).
    pub fn encode_target(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode(&self.target, text, None)
    }

    /// The ids of a random cut of a source sentence, as
    /// [`SentencePiece::encode_sampled`] draws it, closed by the end-of-sentence id.
    ///
    /// # Errors
    /// As [`encode_source`](Self::encode_source), and [`Error::Option`] if a number is out of its
    /// range.
    pub fn encode_source_sampled(
        &self,
        text: &str,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Vec<u32>, Error> {
        sampling.check()?;
        self.encode(&self.source, text, Some((sampling, seed)))
    }

    /// The ids of a random cut of a target sentence.
    ///
    /// # Errors
    /// As [`encode_source_sampled`](Self::encode_source_sampled).
    pub fn encode_target_sampled(
        &self,
        text: &str,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Vec<u32>, Error> {
        sampling.check()?;
        self.encode(&self.target, text, Some((sampling, seed)))
    }

    fn encode(
        &self,
        side: &Side,
        text: &str,
        sampling: Option<(Sampling, u64)>,
    ) -> Result<Vec<u32>, Error> {
        let mut random = sampling.map(|(sampling, seed)| (sampling, Random::new(seed)));
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        for part in side.added.split(text) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => {
                    let (code, text) = split_language_code(text);
                    if let Some(code) = code {
                        ids.push(self.code_id(side, code)?);
                    }
                    let cut = match &mut random {
                        None => Cut::Best,
                        Some((sampling, random)) => Cut::Random(*sampling, random),
                    };
                    side.encode_text(text, cut, &mut ids)?;
                }
            }
        }
        ids.push(side.special.eos);
        Ok(ids)
    }

    /// The id of a `>>code<<` found in a text. If the model has no language tokens this is just odd
    /// text.
    fn code_id(&self, side: &Side, code: &str) -> Result<u32, Error> {
        match side.lookup(code) {
            Some(id) => Ok(id),
            None if self.languages.is_empty() || code.contains(char::is_whitespace) => {
                Ok(side.special.unk)
            }
            None => Err(self.unknown_language(code)),
        }
    }

    /// The source id of the token that asks for a target language, written `fra` or `>>fra<<`.
    ///
    /// # Errors
    /// [`Error::UnknownLanguage`], listing the languages there are.
    pub fn language_id(&self, language: &str) -> Result<u32, Error> {
        let code = language.strip_prefix(">>").and_then(|rest| rest.strip_suffix("<<"));
        let code = code.unwrap_or(language);
        match self.languages.binary_search_by(|known| known.as_str().cmp(code)) {
            Ok(_) => self.source.lookup(&format!(">>{code}<<")),
            Err(_) => None,
        }
        .ok_or_else(|| self.unknown_language(language))
    }

    fn unknown_language(&self, language: &str) -> Error {
        Error::UnknownLanguage { language: language.into(), available: self.languages.clone() }
    }

    /// The languages that `>>code<<` tokens name, sorted; empty for a model with one target
    /// language.
    #[must_use]
    pub fn languages(&self) -> &[String] {
        &self.languages
    }

    /// The text of target ids. Special tokens, the unknown one among them, are left out, and so are
    /// ids that the vocabulary lacks.
    #[must_use]
    pub fn decode_target(&self, ids: &[u32]) -> String {
        let side = &self.target;
        let shown = ids.iter().filter(|id| side.special.all.binary_search(id).is_err());
        let text = side.spm.decode_pieces(shown.filter_map(|&id| side.vocab.token(id)));
        let text = text.replace('▁', " ");
        let text = strip(&text);
        if self.clean_up { clean_up_spaces(text) } else { text.to_owned() }
    }

    /// The source token with this id.
    #[must_use]
    pub fn source_token(&self, id: u32) -> Option<&str> {
        self.source.vocab.token(id)
    }

    /// The target token with this id.
    #[must_use]
    pub fn target_token(&self, id: u32) -> Option<&str> {
        self.target.vocab.token(id)
    }

    /// One more than the highest source id.
    #[must_use]
    pub fn source_vocab_size(&self) -> usize {
        self.source.vocab.size()
    }

    /// One more than the highest target id.
    #[must_use]
    pub fn target_vocab_size(&self) -> usize {
        self.target.vocab.size()
    }

    /// The end-of-sentence id of the target side.
    #[must_use]
    pub const fn eos_id(&self) -> u32 {
        self.target.special.eos
    }

    /// The padding id of the target side, with which Marian also starts decoding.
    #[must_use]
    pub const fn pad_id(&self) -> u32 {
        self.target.special.pad
    }

    /// The unknown id of the target side.
    #[must_use]
    pub const fn unk_id(&self) -> u32 {
        self.target.special.unk
    }
}

impl Side {
    fn new(
        spm: Arc<SentencePiece>,
        (vocab, added, special): (Arc<Vocab>, Arc<AddedTokens>, Special),
    ) -> Self {
        let mut side = Side { spm, vocab, added, ids: Vec::new(), special };
        let pieces = (0..side.spm.vocab_size() as u32).map_while(|id| side.spm.piece(id));
        side.ids = pieces.map(|piece| side.lookup(piece).unwrap_or(side.special.unk)).collect();
        side
    }

    fn lookup(&self, token: &str) -> Option<u32> {
        self.added.id(token).or_else(|| self.vocab.id(token))
    }

    fn encode_text(&self, text: &str, cut: Cut<'_>, ids: &mut Vec<u32>) -> Result<(), Error> {
        let unknown = self.spm.unk_id();
        self.spm.for_each_piece(text, cut, |id, piece| {
            ids.push(if id == unknown {
                // The vocabulary may know what this side's SentencePiece does not.
                let known = std::str::from_utf8(piece).ok().and_then(|piece| self.lookup(piece));
                known.unwrap_or(self.special.unk)
            } else {
                self.ids[id as usize]
            });
        })
    }
}

/// Gives the special tokens ids: those they have, else new ones at the end.
fn add_special_tokens(
    vocab: &mut Vocab,
    config: &Config,
    file: &str,
) -> Result<(Special, AddedTokens), Error> {
    let unk_token = text_or(&config.unk_token, "<unk>");
    let unk = vocab.id(unk_token).ok_or_else(|| Error::Malformed {
        file: file.into(),
        format: "vocabulary",
        fault: format!("the unknown token {unk_token:?} is not in it"),
    })?;
    let declared: Vec<&Token> =
        config.added_tokens_decoder.iter().flat_map(|d| d.values()).collect();
    let additional = config.additional_special_tokens.iter().flatten();
    let eos = vocab.add(text_or(&config.eos_token, "</s>"));
    let pad = vocab.add(text_or(&config.pad_token, "<pad>"));
    let mut all = vec![unk, eos, pad];
    let mut added = Vec::new();
    for token in declared.iter().copied().chain(additional) {
        if token.content.is_empty() {
            continue;
        }
        let id = vocab.add(&token.content);
        if token.special {
            all.push(id);
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
    all.sort_unstable();
    all.dedup();
    Ok((Special { unk, eos, pad, all }, AddedTokens::new(added)))
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

fn languages(vocab: &Vocab) -> Vec<String> {
    let code = |token: &str| {
        let code = token.strip_prefix(">>")?.strip_suffix("<<")?;
        (!code.is_empty()).then(|| code.to_owned())
    };
    let mut languages: Vec<String> = vocab.tokens().filter_map(code).collect();
    languages.sort_unstable();
    languages
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
