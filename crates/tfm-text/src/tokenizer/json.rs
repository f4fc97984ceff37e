//! Hugging Face's `tokenizer.json`, through the `tokenizers` library.

use super::{Affixes, Framing, Special, Tokenizer, guarded::guarded, side::Side};
use crate::{Error, Files, Sampling};
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use tokenizers::{Encoding, Token};

/// The file.
pub(super) const FILE: &str = "tokenizer.json";

/// Both sides: the file does not tell one from the other.
#[derive(Debug)]
struct JsonSide {
    inner: tokenizers::Tokenizer,
    file: String,
    /// The special ids but for the unknown token, sorted.
    outside: Vec<u32>,
    /// The tokens that `tokenizer_config.json` names, which are special whatever this file says.
    named: Vec<u32>,
}

/// The names of special tokens in `tokenizer_config.json`, as bare text or as an object with
/// `content`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecialNames {
    unk_token: Option<Name>,
    bos_token: Option<Name>,
    eos_token: Option<Name>,
    pad_token: Option<Name>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Name {
    Bare(String),
    Full { content: String },
}

/// Loads `tokenizer.json`, and the names of the special tokens from `tokenizer_config.json` if that
/// is there. Truncation and padding stored in the file are switched off. What its post-processor
/// puts around a text is the framing.
///
/// # Errors
/// [`Error::Missing`], [`Error::Io`] or [`Error::Malformed`], naming the file.
pub(super) fn load(files: &Files<'_>) -> Result<Tokenizer, Error> {
    let file = files.display(FILE);
    let bytes = files.require(FILE, "copy it from the repository the model came from")?;
    let malformed =
        |fault| Error::Malformed { file: file.clone(), format: "tokenizer.json", fault };
    check_charsmaps(&bytes).map_err(malformed)?;
    let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(&bytes)).map_err(malformed)?;
    inner.with_padding(None);
    guarded(|| inner.with_truncation(None).map(|_| ())).map_err(malformed)?;
    let affixes = affixes(&inner).map_err(malformed)?;

    let config = "tokenizer_config.json";
    let names: SpecialNames = match files.read(config)? {
        None => SpecialNames::default(),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::Malformed {
            file: files.display(config),
            format: "tokeniser configuration",
            fault: error.to_string(),
        })?,
    };
    let id = |name: Option<Name>| {
        let (Name::Bare(text) | Name::Full { content: text }) = name?;
        inner.token_to_id(&text)
    };
    let special = Special {
        unk: id(names.unk_token),
        bos: id(names.bos_token),
        eos: id(names.eos_token),
        pad: id(names.pad_token),
    };
    let added = inner.get_added_tokens_decoder().into_iter();
    let outside = added.filter(|(id, token)| token.special && Some(*id) != special.unk);
    let named: Vec<u32> = [special.bos, special.eos, special.pad].into_iter().flatten().collect();
    let around = affixes.before.iter().chain(&affixes.after).copied();
    let mut outside: Vec<u32> =
        outside.map(|(id, _)| id).chain(named.iter().copied()).chain(around).collect();
    outside.sort_unstable();
    let named = named.into_iter().chain(special.unk).collect();
    let side: Arc<dyn Side> = Arc::new(JsonSide { inner, file, outside, named });
    Ok(Tokenizer {
        source: side.clone(),
        target: side,
        framing: Framing::alike(affixes),
        special,
        languages: Default::default(),
    })
}

/// What the post-processor puts around a text: it is given one token that no vocabulary has.
fn affixes(inner: &tokenizers::Tokenizer) -> Result<Affixes, String> {
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let framed = guarded(|| inner.post_process(text, None, true))?;
    let ids = framed.get_ids();
    let mut at = ids.iter().enumerate().filter(|(_, id)| **id == TEXT).map(|(at, _)| at);
    match (at.next(), at.next()) {
        (Some(at), None) => {
            Ok(Affixes { before: ids[..at].to_vec(), after: ids[at + 1..].to_vec() })
        }
        _ => Err("its post-processor does not have the text once".into()),
    }
}

impl JsonSide {
    /// The text of ids, the special ones too; of ids that cannot be decoded, none.
    fn decoded(&self, ids: &[u32]) -> String {
        guarded(|| self.inner.decode(ids, false)).unwrap_or_default()
    }

    fn failed(&self, action: &'static str, fault: String) -> Error {
        Error::Pipeline { file: self.file.clone(), action, fault }
    }
}

impl Side for JsonSide {
    fn encode(&self, text: &str, sampling: Option<(Sampling, u64)>) -> Result<Vec<u32>, Error> {
        if sampling.is_some() {
            return Err(Error::Option {
                option: "sampling",
                problem: "tokenizer.json cannot sample; use a model with its .spm, or none".into(),
            });
        }
        guarded(|| self.inner.encode_fast(text, false))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|fault| self.failed("encode", fault))
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let ids: Vec<u32> = ids.iter().copied().filter(|id| !self.named.contains(id)).collect();
        guarded(|| self.inner.decode(&ids, true)).map_err(|fault| self.failed("decode", fault))
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.inner.id_to_token(id).map(Cow::Owned)
    }

    fn is_text(&self, id: u32) -> bool {
        self.outside.binary_search(&id).is_err() && self.inner.id_to_token(id).is_some()
    }

    /// A word begins where decoding puts a space.
    fn begins_word(&self, word: &[u32], id: u32) -> bool {
        let before = self.decoded(word);
        let after = self.decoded(&[word, &[id]].concat());
        // Where it does not go on, `id` has completed a character.
        let Some(added) = after.strip_prefix(&before) else { return false };
        let ends = before.ends_with(char::is_whitespace) && !before.trim().is_empty();
        ends || added.starts_with(char::is_whitespace)
    }

    fn word(&self, ids: &[u32]) -> String {
        self.decoded(ids).trim().to_owned()
    }

    fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// Checks the length that each precompiled charsmap announces, for which the library would allocate
/// unseen.
fn check_charsmaps(json: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(default)]
        normalizer: serde_json::Value,
    }
    let outline: Outline = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut waiting = vec![&outline.normalizer];
    while let Some(value) = waiting.pop() {
        match value {
            serde_json::Value::Array(items) => waiting.extend(items),
            serde_json::Value::Object(members) => {
                if let Some(charsmap) = members.get("precompiled_charsmap").and_then(|c| c.as_str())
                    && !charsmap_is_whole(charsmap)
                {
                    return Err("its precompiled_charsmap is cut short".into());
                }
                waiting.extend(members.values());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the `u32` that a base64 text begins with is no more than the bytes that follow it.
fn charsmap_is_whole(base64: &str) -> bool {
    let digits = base64.as_bytes().iter().take(6).map(|digit| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let Some(bits) = digits.map(|d| d.map(u64::from)).try_fold(0, |bits, d| Some(bits << 6 | d?))
    else {
        return false;
    };
    // Six digits are 36 bits, of which the first 32 are the little-endian length.
    let announced = u32::swap_bytes((bits >> 4) as u32) as usize;
    base64.len() >= 6 && announced <= base64.len() / 4 * 3
}
