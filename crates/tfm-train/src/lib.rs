//! Training of encoder-decoder Transformers: configuration, data, the learner (loss, gradient and
//! optimiser as one graph), schedules, checkpoints and reports.

pub mod checkpoint;
pub mod config;
pub mod data;
mod error;
pub mod initial;
pub mod learner;
mod random;
pub mod report;
pub mod schedule;
pub mod trainer;

pub use config::TrainConfig;
pub use error::{Error, Result};
pub use learner::{Example, Learner, Method, Outcome};
