//! The core of tfm: **what** to compute, and the contract of whoever computes it.
//!
//! Data goes one way: a [`Graph`] is recorded, the [`passes`] rewrite it, a [`Plan`] orders it and
//! assigns memory, and a [`Session`] runs the plan on a [`Backend`]. This crate knows no backend
//! but the f64 reference (feature `testing`), and no model.
#![forbid(unsafe_code)]

pub mod backend;
mod dtype;
mod dump;
mod error;
pub mod fused;
mod graph;
mod infer;
mod layout;
pub mod op;
pub mod passes;
pub mod philox;
mod plan;
mod rows;
mod session;
mod shape;
mod tensor;

#[cfg(feature = "testing")]
pub mod reference;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::{Backend, BackendError};
pub use dtype::{DType, bf16_from_f64, f16_from_f64};
pub use error::{Error, Result};
pub use graph::{Equations, Expr, Graph, OuterScope, Value};
pub use layout::Layout;
pub use plan::Plan;
pub use rows::{MemoryRows, RowSource};
pub use session::{
    CompileOptions, DeviceTensor, NoParameters, NotFinite, ParameterSource, Program, Session,
};
pub use shape::Shape;
pub use tensor::{HostSlice, Tensor, TensorData};
