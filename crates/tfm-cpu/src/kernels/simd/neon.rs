//! NEON: a vector is 8 lanes in two of its 32 registers, so that sums have the same trees as
//! AVX2's.

use std::arch::aarch64::*;
use std::arch::asm;

use half::bf16;

use super::{Kernel, Simd};

/// Proof that the CPU has NEON.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Neon(());

/// Whether the CPU has what [`enter`] is compiled for.
pub(super) fn detected() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Runs `kernel` compiled for NEON.
///
/// # Safety
/// [`detected`] must have returned true.
#[target_feature(enable = "neon")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon(()))
}

impl Neon {
    /// Whether the CPU has the instructions.
    pub(in crate::kernels) fn detected() -> bool {
        detected()
    }

    /// Makes the proof, for code that is compiled for these instructions and more.
    ///
    /// # Safety
    /// The CPU must have the instructions.
    pub(in crate::kernels) unsafe fn new() -> Self {
        Neon(())
    }
}

macro_rules! has_neon {
    ($($body:tt)*) => {
        // SAFETY: only `enter` and `new` make a `Neon` value, so the CPU has the instructions.
        // Memory is touched only through slices whose length was checked.
        unsafe { $($body)* }
    };
}

type F = float32x4x2_t;

/// Whether each lane's number is below `len`.
#[inline(always)]
fn mask(len: usize) -> [uint32x4_t; 2] {
    static NUMBERS: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
    has_neon!(
        let len = vdupq_n_u32(len as u32);
        let (low, high) = (vld1q_u32(NUMBERS.as_ptr()), vld1q_u32(NUMBERS.as_ptr().add(4)));
        [vcltq_u32(low, len), vcltq_u32(high, len)]
    )
}

/// 2ⁿ for an integral `n` in −126..=127, and 0 below.
#[inline(always)]
fn pow2(n: float32x4_t) -> float32x4_t {
    has_neon!(
        let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
        let exponent = vmaxq_s32(exponent, vdupq_n_s32(0));
        vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
    )
}

/// Applies one operation to both halves.
macro_rules! both {
    (|$($x:ident),+| $body:expr) => {{
        let low = { $(let $x = $x.0;)+ has_neon!($body) };
        let high = { $(let $x = $x.1;)+ has_neon!($body) };
        float32x4x2_t(low, high)
    }};
}

impl Simd for Neon {
    type F = F;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        has_neon!(float32x4x2_t(vdupq_n_f32(x), vdupq_n_f32(x)))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> F {
        assert!(x.len() >= 8);
        // SAFETY: the slice has as many elements as are read.
        unsafe { self.load_ptr(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> F {
        if x.len() == 8 {
            return self.load(x);
        }
        let mut all = [0.0; 8];
        all[..x.len()].copy_from_slice(x);
        self.load(&all)
    }
    #[inline(always)]
    fn store(self, v: F, out: &mut [f32]) {
        assert!(out.len() >= 8);
        has_neon!(
            vst1q_f32(out.as_mut_ptr(), v.0);
            vst1q_f32(out.as_mut_ptr().add(4), v.1)
        )
    }
    #[inline(always)]
    fn store_partial(self, v: F, out: &mut [f32]) {
        if out.len() == 8 {
            return self.store(v, out);
        }
        let mut all = [0.0; 8];
        self.store(v, &mut all);
        out.copy_from_slice(&all[..out.len()]);
    }
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> F {
        // SAFETY: the caller's promise.
        unsafe { float32x4x2_t(vld1q_f32(x), vld1q_f32(x.add(4))) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> F {
        assert!(x.len() >= 8);
        has_neon!(
            let words = vld1q_u16(x.as_ptr().cast());
            let (low, high) = (vget_low_u16(words), vget_high_u16(words));
            float32x4x2_t(
                vreinterpretq_f32_u32(vshll_n_u16::<16>(low)),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(high)),
            )
        )
    }
    #[inline(always)]
    fn load_bf16_partial(self, x: &[bf16]) -> F {
        let mut all = [bf16::ZERO; 8];
        all[..x.len()].copy_from_slice(x);
        self.load_bf16(&all)
    }
    #[inline(always)]
    fn firsts(self, pairs: F) -> F {
        both!(|pairs| vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(pairs))))
    }
    #[inline(always)]
    fn seconds(self, pairs: F) -> F {
        both!(|pairs| {
            let upper = vdupq_n_u32(0xffff_0000);
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(pairs), upper))
        })
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: this is a hint, which touches nothing.
        unsafe {
            asm!("prfm pldl1keep, [{x}]", x = in(reg) x, options(nostack, preserves_flags, readonly));
        }
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        both!(|a, b| vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        both!(|a, b| vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        both!(|a, b| vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        both!(|a, b| vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        both!(|a, b, c| vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        // NEON's own maximum is NaN if either operand is.
        both!(|a, b| vbslq_f32(vcgtq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        both!(|a, b| vbslq_f32(vcltq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        both!(|a| vabsq_f32(a))
    }
    #[inline(always)]
    fn copysign(self, magnitude: F, sign: F) -> F {
        both!(|magnitude, sign| vbslq_f32(vdupq_n_u32(1 << 31), sign, magnitude))
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        both!(|a| vrndnq_f32(a))
    }
    #[inline(always)]
    fn of_integers(self, bits: F) -> F {
        both!(|bits| vcvtq_f32_s32(vreinterpretq_s32_f32(bits)))
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        both!(|a| vsqrtq_f32(a))
    }
    #[inline(always)]
    fn scale2(self, a: F, n: F) -> F {
        // In two steps, because 2ⁿ alone may not be a normal number where a · 2ⁿ is one.
        both!(|a, n| {
            let half = vrndnq_f32(vmulq_f32(n, vdupq_n_f32(0.5)));
            vmulq_f32(vmulq_f32(a, pow2(half)), pow2(vsubq_f32(n, half)))
        })
    }
    #[inline(always)]
    fn scale2_down(self, a: F, n: F) -> F {
        // One step is enough: 2ⁿ is 0 where it is not normal.
        both!(|a, n| vmulq_f32(a, pow2(n)))
    }
    #[inline(always)]
    fn select_lt(self, a: F, b: F, yes: F, no: F) -> F {
        both!(|a, b, yes, no| vbslq_f32(vcltq_f32(a, b), yes, no))
    }
    #[inline(always)]
    fn gt(self, a: F, b: F) -> u32 {
        static BITS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
        has_neon!(
            let low = vandq_u32(vcgtq_f32(a.0, b.0), vld1q_u32(BITS.as_ptr()));
            let high = vandq_u32(vcgtq_f32(a.1, b.1), vld1q_u32(BITS.as_ptr().add(4)));
            vaddvq_u32(vorrq_u32(low, high))
        )
    }
    #[inline(always)]
    fn sum4(self, v: [F; 4]) -> [f32; 4] {
        has_neon!(
            let a = vpaddq_f32(vaddq_f32(v[0].0, v[0].1), vaddq_f32(v[1].0, v[1].1));
            let b = vpaddq_f32(vaddq_f32(v[2].0, v[2].1), vaddq_f32(v[3].0, v[3].1));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), vpaddq_f32(a, b));
            out
        )
    }
    #[inline(always)]
    fn max4(self, v: [F; 4]) -> [f32; 4] {
        has_neon!(
            let a = vpmaxq_f32(vmaxq_f32(v[0].0, v[0].1), vmaxq_f32(v[1].0, v[1].1));
            let b = vpmaxq_f32(vmaxq_f32(v[2].0, v[2].1), vmaxq_f32(v[3].0, v[3].1));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), vpmaxq_f32(a, b));
            out
        )
    }
    #[inline(always)]
    fn first_lanes(self, v: F, n: usize, other: F) -> F {
        let [low, high] = mask(n);
        has_neon!(float32x4x2_t(vbslq_f32(low, v.0, other.0), vbslq_f32(high, v.1, other.1)))
    }
    #[inline(always)]
    fn transpose(self, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize) {
        assert!(src.len() >= 7 * src_stride + 8 && dst.len() >= 7 * dst_stride + 8);
        for (i, j) in [(0, 0), (0, 4), (4, 0), (4, 4)] {
            has_neon!(
                let from = src.as_ptr().add(i * src_stride + j);
                let to = dst.as_mut_ptr().add(j * dst_stride + i);
                let first = vtrnq_f32(vld1q_f32(from), vld1q_f32(from.add(src_stride)));
                let second = vtrnq_f32(
                    vld1q_f32(from.add(2 * src_stride)),
                    vld1q_f32(from.add(3 * src_stride)),
                );
                // Columns 0 and 2, then 1 and 3, of each pair of rows.
                for (c, a, b) in [(0, first.0, second.0), (1, first.1, second.1)] {
                    let low = vcombine_f32(vget_low_f32(a), vget_low_f32(b));
                    let high = vcombine_f32(vget_high_f32(a), vget_high_f32(b));
                    vst1q_f32(to.add(c * dst_stride), low);
                    vst1q_f32(to.add((c + 2) * dst_stride), high);
                }
            )
        }
    }
}
