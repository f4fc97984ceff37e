//! The CPU backend of tfm: packed products, fused attention, norms and search kernels in SIMD.
//!
//! [`CpuBackend`] implements [`tfm_core::Backend`]. In `f32` every fused op is one kernel; in the
//! other float types fused ops are decomposed into primitives, which compute in `f32` and round.
//!
//! The instruction set is chosen at run time: AMX for 8-bit integers, AVX-512, AVX2 with FMA, NEON,
//! or portable code. `TFM_CPU_ISA` (`amx`, `avx512`, `avx2`, `neon`, `portable`) chooses another
//! than the best.

mod backend;
mod buffer;
mod fused;
pub mod kernels;
mod primitive;
mod products;
mod selections;
mod strided;
mod weights;

pub use backend::CpuBackend;
pub use buffer::Buffer;

/// The best type in which this backend keeps keys and values, beside products of this precision. If
/// products see fewer bits, the keys and values that each step reads need no more bits either.
pub fn key_dtype(precision: tfm_core::fused::Precision) -> tfm_core::DType {
    use tfm_core::fused::Precision;
    match precision {
        Precision::Full => tfm_core::DType::F32,
        Precision::BFloat16 | Precision::Int8 => tfm_core::DType::BF16,
    }
}
