#![doc = include_str!("../README.md")]

mod alignment;
#[cfg(feature = "bundled")]
mod bundled;
mod convert;
mod device;
mod engine;
mod error;
mod given;
mod model;
mod options;
mod stream;
#[cfg(feature = "training")]
pub mod training;
mod translation;
mod translator;
mod vectors;

pub use alignment::{Alignment, WordAlignment};
pub use convert::{average, convert};
pub use device::Device;
pub use error::{Error, Result};
pub use model::Model;
pub use options::{Compute, ComputeType, Options};
pub use stream::{Piece, TranslationStream, Translations};
pub use tfm_model::checkpoint::{Checkpoint, ElementType};
pub use tfm_model::config::{self, Config};
pub use tfm_model::generation::{EarlyStopping, Finished, GenerationOptions};
pub use tfm_model::scheduler::Stats;
pub use tfm_text::{Shortlist, ShortlistLearner, ShortlistOptions, Tokenizer};
pub use translation::{Alternative, Score, Translation};
pub use translator::Translator;
pub use vectors::TokenVectors;

/// What a [`Checkpoint`] holds and tells of itself.
pub mod checkpoint {
    pub use tfm_core::{DType, ParameterSource, RowSource, Shape, Tensor};
    pub use tfm_model::checkpoint::{Checkpoint, ElementType, ParameterInfo};
    pub use tfm_model::families::{Family, Template};
    pub use tfm_model::{Description, Fault};
}

/// What a [`Tokenizer`] is made of and gives.
pub mod tokenizer {
    pub use tfm_text::{Affixes, Files, Framing, Sampling, Tokenizer, Word};
}

/// The errors inside an [`Error`].
pub mod errors {
    pub use tfm_core::{Error as CoreError, NotFinite};
    pub use tfm_model::generation::OptionsError;
    pub use tfm_model::scheduler::Rejection;
    pub use tfm_model::{Error as ModelError, Fault};
    pub use tfm_text::Error as TextError;
}

/// Scores of translations: BLEU, chrF and TER, with sacreBLEU's numbers and signatures.
pub mod metrics {
    pub use tfm_text::{
        Bleu, BleuScore, BleuTokenizer, Chrf, ChrfScore, Smoothing, Ter, TerScore, significance,
    };
}
