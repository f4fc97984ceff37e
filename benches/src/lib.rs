//! Criterion benchmarks; see the `benches` folder.
