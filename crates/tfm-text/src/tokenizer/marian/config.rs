//! The part of `tokenizer_config.json` (and of the older `special_tokens_map.json`) that shapes
//! token ids.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Error, Files};

/// What the configuration says; every field may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) separate_vocabs: Option<bool>,
    pub(super) clean_up_tokenization_spaces: Option<bool>,
    pub(super) unk_token: Option<Token>,
    pub(super) eos_token: Option<Token>,
    pub(super) pad_token: Option<Token>,
    pub(super) additional_special_tokens: Option<Vec<Token>>,
    /// By id, which is written as a string.
    pub(super) added_tokens_decoder: Option<BTreeMap<u32, Token>>,
}

/// A token, as its bare text or with its manners.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "TokenForm")]
pub(super) struct Token {
    pub(super) content: String,
    /// Whether it swallows the whitespace on its left.
    pub(super) lstrip: bool,
    /// Whether it swallows the whitespace on its right.
    pub(super) rstrip: bool,
    pub(super) special: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenForm {
    Bare(String),
    Full {
        content: String,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        #[serde(default)]
        special: bool,
    },
}

impl From<TokenForm> for Token {
    fn from(form: TokenForm) -> Self {
        match form {
            TokenForm::Bare(content) => {
                Token { content, lstrip: false, rstrip: false, special: true }
            }
            TokenForm::Full { content, lstrip, rstrip, special } => {
                Token { content, lstrip, rstrip, special }
            }
        }
    }
}

impl Config {
    /// Reads the configuration of a model directory; a directory without one has the defaults.
    pub(super) fn read(files: &Files<'_>) -> Result<Self, Error> {
        let mut config = parse(files, "tokenizer_config.json")?;
        // The older file counts only where the newer way of listing tokens is not used.
        if config.added_tokens_decoder.is_none() {
            let map = parse(files, "special_tokens_map.json")?;
            config.unk_token = map.unk_token.or(config.unk_token);
            config.eos_token = map.eos_token.or(config.eos_token);
            config.pad_token = map.pad_token.or(config.pad_token);
            config.additional_special_tokens =
                map.additional_special_tokens.or(config.additional_special_tokens);
        }
        Ok(config)
    }
}

fn parse(files: &Files<'_>, name: &str) -> Result<Config, Error> {
    match files.read(name)? {
        None => Ok(Config::default()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::Malformed {
            file: files.display(name),
            format: "tokeniser configuration",
            fault: error.to_string(),
        }),
    }
}

/// The text of a special token, or its usual one.
pub(super) fn text_or<'a>(token: &'a Option<Token>, usual: &'a str) -> &'a str {
    token.as_ref().map_or(usual, |token| &token.content)
}
