//! Training of encoder-decoder Transformers: what a training is (configuration), what it learns from (data),
//! how fast (schedules), what it leaves on disk (checkpoints) and what it tells (reports).

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
