//! What SentencePiece is asked for by `sp_model_kwargs` of `tokenizer_config.json`.

use crate::{Error, Files};
use serde::Deserialize;

const FILE: &str = "tokenizer_config.json";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    sp_model_kwargs: Option<Settings>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    enable_sampling: Option<bool>,
}

/// Refuses a configuration by which each text would be cut at random. One that cannot be read is
/// somebody else's fault to find.
pub(super) fn refuse(files: &Files<'_>) -> Result<(), Error> {
    let Some(bytes) = files.read(FILE)? else { return Ok(()) };
    let config: Config = serde_json::from_slice(&bytes).unwrap_or_default();
    if config.sp_model_kwargs.and_then(|settings| settings.enable_sampling) != Some(true) {
        return Ok(());
    }
    Err(Error::Malformed {
        file: files.display(FILE),
        format: "tokeniser configuration",
        fault: "`sp_model_kwargs.enable_sampling` is true, by which every text is cut at random; \
                take it out"
            .into(),
    })
}
