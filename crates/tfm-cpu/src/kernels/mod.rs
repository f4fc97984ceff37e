//! The kernels, over plain slices.
//!
//! **Same inputs, same bits**: the order in which an element of a result is computed depends only
//! on the extents of its own row. It does not depend on the number of rows, on the row's place
//! among them, or on the number of threads. Instruction sets may differ from one another in the
//! last bits.

pub mod activation;
pub mod activation_gradient;
pub mod aligned;
pub mod attention;
pub mod attention_gradient;
pub mod bf16;
pub mod candidates;
pub mod columns;
pub mod cross_entropy;
pub mod distance_bias;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod epilogue;
pub mod gemm;
pub mod heads;
pub mod int8;
pub mod math;
pub mod matmul;
pub mod matrix_unit;
pub mod norm;
pub mod norm_gradient;
pub mod optimizer;
pub mod pack;
pub mod packed_matmul;
pub mod pairs;
pub mod philox;
pub mod reduce;
pub mod rows;
pub mod scatter;
pub mod scratch;
pub mod screen;
pub mod selection;
pub mod shortlist;
pub mod simd;
mod small_product;
pub mod softmax;
#[cfg(test)]
pub(crate) mod testing;
pub mod threads;
mod tile;
pub mod top_k;
mod workers;
