//! NEON's dot products: `sdot` multiplies signed bytes and adds four products to 32 bits.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::simd::{NeonFloats, Simd};
use super::{Dot, DotKernel};

/// Proof that the CPU has NEON and its dot products.
#[derive(Clone, Copy)]
pub(super) struct NeonDot(NeonFloats);

/// Whether the CPU has what [`enter`] is compiled for.
pub(super) fn detected() -> bool {
    NeonFloats::detected() && std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Runs `kernel` compiled for NEON with dot products.
///
/// # Safety
/// [`detected`] must have returned true.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn enter<K: DotKernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    kernel.run(NeonDot(unsafe { NeonFloats::new() }))
}

macro_rules! has_dot {
    ($($body:tt)*) => {
        // SAFETY: only `enter` makes a `NeonDot` value, so the CPU has the instructions. Memory is
        // touched only through slices whose length was checked.
        unsafe { $($body)* }
    };
}

/// The intrinsic of this instruction is not stable yet.
#[inline(always)]
fn sdot(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    has_dot!(asm!(
        ".arch_extension dotprod",
        "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
        sums = inout(vreg) sums,
        w = in(vreg) w,
        x = in(vreg) x,
        options(pure, nomem, nostack, preserves_flags),
    ));
    sums
}

impl Dot for NeonDot {
    type Floats = NeonFloats;
    type Input = i8;
    type Inputs = int8x16_t;
    type Weights = int8x16x2_t;
    type Sums = int32x4x2_t;

    const COLUMNS: usize = 8;
    const TILE_ROWS: usize = 6;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn floats(self) -> NeonFloats {
        self.0
    }
    #[inline(always)]
    fn store_inputs(self, x: float32x4x2_t, out: &mut [i8]) {
        assert!(out.len() >= NeonFloats::LANES);
        has_dot!(
            let low = vqmovn_s32(vcvtnq_s32_f32(x.0));
            let high = vqmovn_s32(vcvtnq_s32_f32(x.1));
            vst1_s8(out.as_mut_ptr(), vqmovn_s16(vcombine_s16(low, high)))
        )
    }
    #[inline(always)]
    unsafe fn inputs(self, x: *const i8) -> int8x16_t {
        // SAFETY: the caller's promise: there are four numbers, which have four bytes together.
        has_dot!(vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned())))
    }
    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> int8x16x2_t {
        // SAFETY: the caller's promise.
        has_dot!(int8x16x2_t(vld1q_s8(w), vld1q_s8(w.add(16))))
    }
    #[inline(always)]
    unsafe fn start(self, start: *const i32) -> int32x4x2_t {
        // SAFETY: the caller's promise.
        has_dot!(int32x4x2_t(vld1q_s32(start), vld1q_s32(start.add(4))))
    }
    #[inline(always)]
    fn add(self, sums: int32x4x2_t, x: int8x16_t, w: int8x16x2_t) -> int32x4x2_t {
        int32x4x2_t(sdot(sums.0, w.0, x), sdot(sums.1, w.1, x))
    }
    #[inline(always)]
    fn store(self, sums: int32x4x2_t, out: &mut [f32]) {
        has_dot!(
            let (low, high) = (vreinterpretq_f32_s32(sums.0), vreinterpretq_f32_s32(sums.1));
            self.0.store(float32x4x2_t(low, high), out)
        )
    }
    #[inline(always)]
    fn prefetch(self, w: *const i8) {
        self.0.prefetch(w.cast());
    }
}
