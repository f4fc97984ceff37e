//! Tokenisers (SentencePiece, tokenizer.json, Marian vocabularies) and the metrics BLEU, chrF and
//! TER.
//!
//! ```text
//! text ─ Tokenizer::encode_source → ids ─ (the model) → ids
//!      ─ Tokenizer::decode_target → text ─ Bleu, Chrf → score
//! ```
//!
//! Each part is equal, token for token or digit for digit, to the Python package that set the
//! standard: `sentencepiece`, `tokenizers`, `transformers` and `sacrebleu`; `tests/` holds what
//! they answered. [`training`] learns new models, which those packages read.

#![forbid(unsafe_code)]

mod error;
mod files;
mod metrics;
mod sentencepiece;
mod shortlist;
mod tokenizer;
pub mod training;
mod trie;
mod vocab;
mod whitespace;

pub use error::Error;
pub use files::{Files, copy_tokenizer};
pub use metrics::significance;
pub use metrics::{Bleu, BleuScore, BleuTokenizer, Chrf, ChrfScore, Smoothing, Ter, TerScore};
pub use sentencepiece::{MAX_TEXT, Sampling, SentencePiece};
pub use shortlist::{Shortlist, ShortlistLearner, ShortlistOptions};
pub use tokenizer::{Affixes, Framing, Tokenizer, Word};
pub use vocab::Vocab;
