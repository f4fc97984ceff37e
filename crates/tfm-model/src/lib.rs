//! The encoder-decoder Transformer: configuration, checkpoints, layers, decoding state and generation.

pub mod checkpoint;
pub mod config;
pub mod decoding;
mod error;
mod forced;
pub mod generation;
mod generator;
mod names;
mod numerics;
mod pairs;
mod parameters;
pub mod transformer;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use error::{Error, Result};
pub use forced::*;
pub use generation::GenerationOptions;
pub use generator::*;
pub use names::{canonical, learnable};
pub use numerics::Numerics;
pub use pairs::{Pair, Pairs};
pub use parameters::{Parameters, computed};
