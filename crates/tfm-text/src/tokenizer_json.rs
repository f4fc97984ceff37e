//! Hugging Face's `tokenizer.json`, through the `tokenizers` library.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;

use crate::{Error, Files};

const FILE: &str = "tokenizer.json";

/// A tokeniser loaded from `tokenizer.json`.
#[derive(Debug)]
pub struct TokenizerJson {
    inner: tokenizers::Tokenizer,
    file: String,
    unk_id: Option<u32>,
    bos_id: Option<u32>,
    eos_id: Option<u32>,
    pad_id: Option<u32>,
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

impl TokenizerJson {
    /// Loads `tokenizer.json`, and the names of the special tokens from `tokenizer_config.json` if
    /// that is there. Truncation and padding stored in the file are switched off.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Io`] or [`Error::Malformed`], naming the file.
    pub fn from_files(files: &Files<'_>) -> Result<Self, Error> {
        let file = files.display(FILE);
        let bytes = files.require(FILE, "copy it from the repository the model came from")?;
        let malformed =
            |fault| Error::Malformed { file: file.clone(), format: "tokenizer.json", fault };
        check_charsmaps(&bytes).map_err(malformed)?;
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(&bytes)).map_err(malformed)?;
        inner.with_padding(None);
        guarded(|| inner.with_truncation(None).map(|_| ())).map_err(malformed)?;

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
        Ok(TokenizerJson {
            unk_id: id(names.unk_token),
            bos_id: id(names.bos_token),
            eos_id: id(names.eos_token),
            pad_id: id(names.pad_token),
            file,
            inner,
        })
    }

    /// The ids of `text`; with `special`, between the tokens that the file's post-processor puts
    /// around it.
    ///
    /// # Errors
    /// [`Error::Pipeline`] with the library's message.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        guarded(|| self.inner.encode_fast(text, special))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|fault| self.failed("encode", fault))
    }

    /// The text of `ids`; ids that the vocabulary lacks are left out.
    ///
    /// # Errors
    /// [`Error::Pipeline`] with the library's message.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        guarded(|| self.inner.decode(ids, skip_special))
            .map_err(|fault| self.failed("decode", fault))
    }

    fn failed(&self, action: &'static str, fault: String) -> Error {
        Error::Pipeline { file: self.file.clone(), action, fault }
    }

    /// The token with this id.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of tokens, added ones included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The unknown id, if `tokenizer_config.json` names one.
    #[must_use]
    pub const fn unk_id(&self) -> Option<u32> {
        self.unk_id
    }

    /// The begin-of-sentence id, if `tokenizer_config.json` names one.
    #[must_use]
    pub const fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// The end-of-sentence id, if `tokenizer_config.json` names one.
    #[must_use]
    pub const fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// The padding id, if `tokenizer_config.json` names one.
    #[must_use]
    pub const fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }
}

/// Runs the library, and turns a panic in it (some broken files cause one) into its message.
fn guarded<T, E: ToString>(run: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizers library panicked: the file contradicts itself".into()),
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
