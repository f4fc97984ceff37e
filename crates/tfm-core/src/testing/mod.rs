//! What a backend is tested with: the [`laws`] that every backend obeys, and the arithmetic that
//! says how far its rounding may take it from the truth.
//!
//! A backend's crate puts it through them in one test:
//!
//! ```
//! use tfm_core::reference::Reference;
//! use tfm_core::testing::{Candidate, laws};
//!
//! let config = laws::Config { scale: 0.01, seed: None };
//! laws::assert_all(&Candidate::new(Reference::<f64>::new()), &config);
//! ```

mod bounds;
mod bytes;
mod data;
pub mod laws;
mod poison;
mod recipe;
pub mod recipes;
mod subject;

pub use bounds::{Bounds, Interval, Tally};
pub use bytes::graph_from_bytes;
pub use data::Data;
pub use poison::Poisoned;
pub use recipe::{Builder, OperandLayout, Parameters, Problem, Recipe, Weights};
pub use subject::{Candidate, Subject};
