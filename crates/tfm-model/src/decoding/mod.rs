//! Decoding: the state of many sentences at once, and the steps that advance it.

mod batch;
mod memory;
mod programs;
mod ranges;
mod rows;
mod share;
mod shortlists;
mod worker;

pub use programs::Programs;
pub use share::ThreadShare;
pub use worker::{Arrival, Limits, Request, Worker};
