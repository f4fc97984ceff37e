//! The CPU backend of tfm: packed products, fused attention, norms and search kernels in SIMD.

pub mod kernels;
