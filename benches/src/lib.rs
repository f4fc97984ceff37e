//! Criterion benchmarks (see the `benches` folder), and what they are held against.

pub mod peaks;

/// The example in the README is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
