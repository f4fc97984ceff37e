//! How texts become token ids.

use std::sync::Arc;
use tfm_text::Tokenizer;

/// One side of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The text to translate.
    Source,
    /// The translation.
    Target,
}

/// The ids of a text of one side, with the special tokens that the model expects around a source or
/// learns to write around a target. With `Some(seed)` the segmentation may be random: the same seed
/// and text give the same ids. With `None` it is the tokeniser's best.
pub type Encoder =
    Arc<dyn Fn(Side, &str, Option<u64>) -> Result<Vec<u32>, tfm_text::Error> + Send + Sync>;

/// Always encodes with the tokeniser's best segmentation.
pub fn plain(tokenizer: Arc<Tokenizer>) -> Encoder {
    Arc::new(move |side, text, _| match side {
        Side::Source => tokenizer.encode_source(text),
        Side::Target => tokenizer.encode_target(text),
    })
}
