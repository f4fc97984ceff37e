#![doc = include_str!("../README.md")]

mod alignment;
#[cfg(feature = "bundled")]
mod bundled;
mod convert;
mod device;
mod engine;
mod error;
mod model;
mod options;
mod stream;
#[cfg(feature = "training")]
pub mod training;
mod translation;
mod translator;

pub use alignment::{Alignment, WordAlignment};
pub use convert::{average, convert};
pub use device::Device;
pub use error::{Error, Result};
pub use model::Model;
pub use options::{Compute, ComputeType, Options};
pub use stream::{Piece, TranslationStream, Translations};
pub use tfm_model::checkpoint::{Checkpoint, ElementType};
pub use tfm_model::generation::Finished;
pub use tfm_model::scheduler::Stats;
pub use tfm_model::{Config, GenerationOptions};
pub use tfm_text::{Shortlist, ShortlistLearner, ShortlistOptions, Tokenizer};
pub use translation::{Alternative, Score, Translation};
pub use translator::Translator;

/// Scores of translations: BLEU, chrF and TER, with sacreBLEU's numbers and signatures.
pub mod metrics {
    pub use tfm_text::{
        Bleu, BleuScore, BleuTokenizer, Chrf, ChrfScore, Smoothing, Ter, TerScore, significance,
    };
}
