//! A `libcublasLt.so` for machines without a GPU: the functions of cuBLASLt that tfm calls.
//! Products are computed in `f64` and rounded once, in the device memory of the fake driver, on
//! whose streams they are enqueued (and recorded, while a graph is captured).
//!
//! It is stricter than the real library: every attribute is checked, and so are shapes, leading
//! dimensions, alignments that were promised, and that an algorithm is used for the problem that it
//! was chosen for. What is wrong is printed as `fake cuBLASLt: refused: …`. At the end of a handle
//! it prints how many products there were and how often an algorithm was looked up.

// The names are the library's.
#![allow(non_snake_case)]

pub mod library;
mod objects;
mod product;
