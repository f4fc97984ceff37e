//! Training of encoder-decoder Transformers.

mod error;
pub mod initial;
pub mod learner;

pub use error::{Error, Result};
pub use learner::{Example, Learner, Method, Outcome};
