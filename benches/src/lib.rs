//! Criterion benchmarks (see the `benches` folder), and what they are held against.

pub mod peaks;
