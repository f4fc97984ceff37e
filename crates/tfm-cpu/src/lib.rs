//! The CPU backend of tfm: packed products, fused attention, norms and search kernels in SIMD.
//!
//! [`CpuBackend`] implements [`tfm_core::Backend`]. In `f32` every fused op is one kernel; in the
//! other float types fused ops are decomposed into primitives, which compute in `f32` and round.
//!
//! The instruction set is found at run time: AVX-512, AVX2 with FMA, or portable code.
//! `TFM_CPU_ISA` (`avx512`, `avx2`, `portable`) asks for another than the best.

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

/// The type in which this backend best keeps keys and values beside products of a precision: where
/// products see fewer bits, those that are read at each step need no more.
pub fn key_dtype(precision: tfm_core::fused::Precision) -> tfm_core::DType {
    use tfm_core::fused::Precision;
    match precision {
        Precision::Full => tfm_core::DType::F32,
        Precision::BFloat16 | Precision::Int8 => tfm_core::DType::BF16,
    }
}
