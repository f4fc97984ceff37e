//! Decoding: the state of many sentences at once, and the steps that advance it.

mod batch;
mod memory;
mod programs;
mod ranges;
mod rows;
mod worker;

pub use worker::{Arrival, Limits, Request, Worker};
