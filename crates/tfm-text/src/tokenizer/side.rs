//! One side of a tokeniser.

use crate::{Error, Sampling};
use std::{borrow::Cow, fmt};

/// One side of a tokeniser: text to ids and ids to text, with nothing that stands around a text.
pub(super) trait Side: fmt::Debug + Send + Sync {
    /// The ids of `text`. With `sampling`, a number seeds a random cut.
    ///
    /// # Errors
    /// [`Error::TextTooLong`], [`Error::Pipeline`], or [`Error::Option`] if this side cannot
    /// sample.
    fn encode(&self, text: &str, sampling: Option<(Sampling, u64)>) -> Result<Vec<u32>, Error>;

    /// The text of `ids`, without special tokens. Ids that the vocabulary lacks are left out.
    ///
    /// # Errors
    /// [`Error::Pipeline`].
    fn decode(&self, ids: &[u32]) -> Result<String, Error>;

    /// The token with this id, as the vocabulary writes it.
    fn token(&self, id: u32) -> Option<Cow<'_, str>>;

    /// Whether an id is a part of texts, as the unknown token is, and not an end, padding or the
    /// like.
    fn is_text(&self, id: u32) -> bool;

    /// Whether `id` begins a word where the ids of `word` precede it.
    fn begins_word(&self, word: &[u32], id: u32) -> bool;

    /// The text of a word's ids.
    fn word(&self, ids: &[u32]) -> String;

    /// How many ids there are.
    fn vocab_size(&self) -> usize;
}
