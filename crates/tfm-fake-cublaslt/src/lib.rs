//! A `libcublasLt.so` for machines without a GPU: the functions of cuBLASLt that tfm calls. It
//! computes products in `f64` and rounds them once. They work on the device memory of the fake
//! driver, on whose streams they are enqueued, or recorded while a graph is captured.
//!
//! It is stricter than the real library. It checks every attribute, shapes, leading dimensions,
//! promised alignments, and that an algorithm is used only for the problem it was chosen for. It
//! prints what is wrong as `fake cuBLASLt: refused: …`. When a handle is destroyed, it prints how
//! many products there were and how often an algorithm was looked up.

// These are the library's names.
#![allow(non_snake_case)]

pub mod library;
mod objects;
mod product;
