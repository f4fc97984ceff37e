//! A model: a checkpoint and a tokeniser.

#[cfg(feature = "bundled")]
use crate::bundled;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use tfm_model::{Checkpoint, Config, GenerationOptions};
#[cfg(feature = "bundled")]
use tfm_text::Files;
use tfm_text::Tokenizer;

/// A loaded model. It is cheap to clone. The weights are read when a device first needs them.
#[derive(Clone)]
pub struct Model {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) config: Arc<Config>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    name: Arc<str>,
}

impl Model {
    /// Opens the model in a directory as Hugging Face lays it out: `config.json`,
    /// `model.safetensors` (or shards with an index), the tokeniser's files, and
    /// `generation_config.json` if there is one.
    ///
    /// # Errors
    /// All faults of the files at once.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let checkpoint = Checkpoint::open(folder)?;
        let tokenizer = Tokenizer::from_dir(folder)?;
        Self::new(checkpoint, tokenizer, folder.display().to_string())
    }

    /// The bundled English-French model: small, and good for short everyday sentences.
    ///
    /// # Errors
    /// None, unless this library was built wrong.
    #[cfg(feature = "bundled")]
    pub fn bundled() -> Result<Self> {
        let [config, generation, weights] =
            ["config.json", "generation_config.json", "model.safetensors"].map(bundled::file);
        let checkpoint = Checkpoint::from_files(bundled::NAME, config, Some(generation), weights)?;
        let tokenizer = Tokenizer::from_files(&Files::Memory(bundled::FILES))?;
        Self::new(checkpoint, tokenizer, bundled::NAME.into())
    }

    fn new(checkpoint: Checkpoint, tokenizer: Tokenizer, name: String) -> Result<Self> {
        let config = checkpoint.config();
        for (side, tokens, rows) in [
            ("source", tokenizer.source_vocab_size(), config.source.vocabulary),
            ("target", tokenizer.target_vocab_size(), config.target.vocabulary),
        ] {
            if tokens > rows {
                let problem = format!(
                    "{name}: the tokeniser has {tokens} {side} tokens, but the model knows {rows}; \
                     they belong to different models"
                );
                return Err(Error::Mismatch { problem });
            }
        }
        let tokenizer = tokenizer.with_decoder_start(config.special.decoder_start);
        Ok(Model {
            config: Arc::new(config.clone()),
            checkpoint: Arc::new(checkpoint),
            tokenizer: Arc::new(tokenizer),
            name: name.into(),
        })
    }

    /// The folder, or the name of the bundled model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The generation settings of its makers, which apply where [`Options`](crate::Options) leave
    /// something open.
    pub fn generation(&self) -> &GenerationOptions {
        self.checkpoint.generation()
    }

    /// The weights.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// The tokeniser.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The target languages, for models that have several.
    pub fn languages(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tokenizer.languages()
    }
}
