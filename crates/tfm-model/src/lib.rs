//! The encoder-decoder Transformer: configuration, checkpoints, layers, decoding state and
//! generation.

pub mod checkpoint;
pub mod config;
pub mod description;
mod error;
pub mod families;
mod fault;
pub mod generation;
mod json;
mod names;
mod numerics;
mod pairs;
mod parameters;
mod roles;
pub mod scheduler;
mod teacher_forcing;
pub mod transformer;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use description::Description;
pub use error::{Error, Result};
pub use families::Family;
pub use fault::Fault;
pub use generation::GenerationOptions;
pub use names::{canonical, learnable};
pub use numerics::Numerics;
pub use pairs::{Pair, Pairs};
pub use parameters::Parameters;
pub use teacher_forcing::*;
pub use transformer::positions::computed;
