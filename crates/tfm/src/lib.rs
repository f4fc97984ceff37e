//! The engine for encoder-decoder Transformers ("Attention is all you need"): models in Hugging Face's
//! layout are loaded and translate.
//!
//! ```
//! use tfm::{Device, Model, Options, Translator};
//!
//! # fn main() -> Result<(), tfm::Error> {
//! let model = Model::bundled()?; // or Model::open("opus-mt-en-de")?
//! let translator = Translator::new(&model, Device::auto(), &Options::default())?;
//!
//! let translation = translator.translate("The cat is sleeping.")?;
//! assert_eq!(translation.text, "Le chat dort.");
//!
//! let lines = ["Thank you.", "", "See you tomorrow."].map(|line| Ok(line.to_owned()));
//! for translation in translator.translate_lines(lines) {
//!     println!("{}", translation?.text);
//! }
//! # Ok(())
//! # }
//! ```

mod bundled;
mod convert;
mod device;
mod engine;
mod error;
mod model;
mod options;
mod stream;
pub mod training;
mod translation;
mod translator;

pub use convert::{average, convert};
pub use device::Device;
pub use error::{Error, Result};
pub use model::Model;
pub use options::{ComputeType, Options};
pub use stream::Translations;
pub use tfm_model::checkpoint::ElementType;
pub use tfm_text::{Shortlist, ShortlistLearner, ShortlistOptions};
pub use translation::{Alignment, Alternative, Score, Translation};
pub use translator::Translator;

/// Scores of translations: BLEU and chrF, with sacreBLEU's numbers and signatures.
pub mod metrics {
    pub use tfm_text::{Bleu, BleuScore, BleuTokenizer, Chrf, ChrfScore, Smoothing};
}

/// The example in the README is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
