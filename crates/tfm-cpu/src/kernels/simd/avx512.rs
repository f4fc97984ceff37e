//! AVX-512 (F, BW, DQ, VL): 16 lanes, 32 registers, masks for tails.

use std::arch::x86_64::*;
use std::sync::OnceLock;

use half::bf16;

use super::{Kernel, Simd};

/// Proof that the CPU has AVX-512.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx512(());

/// Whether the CPU has what [`enter`] is compiled for.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
}

/// Whether `vdpbf16ps` is as fast as a multiply-add of floats. It is on AMD's cores. Intel's cores
/// take four times as long, so two multiply-adds are twice as fast there.
pub(super) fn pairs_are_fast() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let vendor = __cpuid(0);
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        name.as_flattened() == b"AuthenticAMD"
    })
}

/// Runs `kernel` compiled for AVX-512.
///
/// # Safety
/// [`detected`] must have returned true.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

impl Avx512 {
    /// Whether the CPU has the instructions.
    pub(in crate::kernels) fn detected() -> bool {
        detected()
    }

    /// Makes the proof, for code that is compiled for these instructions and more.
    ///
    /// # Safety
    /// The CPU must have the instructions.
    pub(in crate::kernels) unsafe fn new() -> Self {
        Avx512(())
    }
}

macro_rules! has_avx512 {
    ($($body:tt)*) => {
        // SAFETY: only `enter` and `new` make an `Avx512` value, so the CPU has the instructions.
        // Memory is touched only through slices whose length was checked or masked.
        unsafe { $($body)* }
    };
}

const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// The lowest `len` (at most 16) lanes.
#[inline(always)]
fn mask(len: usize) -> __mmask16 {
    assert!(len <= 16);
    ((1u32 << len) - 1) as __mmask16
}

/// The numbers that have these upper halves, and lower halves of 0.
///
/// # Safety
/// The CPU must have AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn widened(x: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
}

/// `acc + x₁·w₁ + x₀·w₀`. The compiler's own function for it can only be inlined into code that is
/// compiled for AVX512_BF16, which nothing else here needs.
///
/// # Safety
/// The CPU must have AVX512_BF16.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn vdpbf16ps(mut acc: __m512, x: __m512, w: __m512) -> __m512 {
    // SAFETY: the caller's promise; it touches no memory.
    unsafe {
        std::arch::asm!(
            "vdpbf16ps {acc}, {x}, {w}",
            acc = inout(zmm_reg) acc,
            x = in(zmm_reg) x,
            w = in(zmm_reg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// Combines the lanes of each of four vectors by an operation.
macro_rules! tree {
    ($of_two:ident, $vectors:expr) => {
        has_avx512!(
            // Each step combines the same lanes of all four: first the lower and the upper half,
            // then the quarters of those, ...
            let [a, b, c, d] = $vectors;
            let low = _mm512_shuffle_f32x4::<0x44>(a, b);
            let ab = $of_two(low, _mm512_shuffle_f32x4::<0xEE>(a, b));
            let low = _mm512_shuffle_f32x4::<0x44>(c, d);
            let cd = $of_two(low, _mm512_shuffle_f32x4::<0xEE>(c, d));
            let even = _mm512_shuffle_f32x4::<0x88>(ab, cd);
            let four = $of_two(even, _mm512_shuffle_f32x4::<0xDD>(ab, cd));
            // ... then neighbours, and pairs of neighbours.
            let two = $of_two(four, _mm512_permute_ps::<0xB1>(four));
            let one = $of_two(two, _mm512_permute_ps::<0x4E>(two));
            let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            let results = _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), results);
            out
        )
    };
}

impl Simd for Avx512 {
    type F = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        has_avx512!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        assert!(x.len() >= 16);
        has_avx512!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> __m512 {
        has_avx512!(_mm512_maskz_loadu_ps(mask(x.len()), x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32]) {
        assert!(out.len() >= 16);
        has_avx512!(_mm512_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn store_partial(self, v: __m512, out: &mut [f32]) {
        has_avx512!(_mm512_mask_storeu_ps(out.as_mut_ptr(), mask(out.len()), v))
    }
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(x) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> __m512 {
        assert!(x.len() >= 16);
        has_avx512!(widened(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16_partial(self, x: &[bf16]) -> __m512 {
        has_avx512!(widened(_mm256_maskz_loadu_epi16(mask(x.len()), x.as_ptr().cast())))
    }
    #[inline(always)]
    fn firsts(self, pairs: __m512) -> __m512 {
        has_avx512!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(pairs))))
    }
    #[inline(always)]
    fn seconds(self, pairs: __m512) -> __m512 {
        has_avx512!(
            let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
            _mm512_and_ps(pairs, _mm512_castsi512_ps(upper))
        )
    }
    #[inline(always)]
    unsafe fn add_pairs_at_once(self, acc: __m512, x: __m512, w: __m512) -> __m512 {
        // SAFETY: the caller's promise; the CPU has AVX-512, as the value proves.
        unsafe { vdpbf16ps(acc, x, w) }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        has_avx512!(_mm_prefetch::<_MM_HINT_T0>(x.cast()))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        has_avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        has_avx512!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        has_avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        has_avx512!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        has_avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        has_avx512!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        has_avx512!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        has_avx512!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn copysign(self, magnitude: __m512, sign: __m512) -> __m512 {
        has_avx512!(
            let bit = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(bit, magnitude), _mm512_and_ps(bit, sign))
        )
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        has_avx512!(_mm512_roundscale_ps::<ROUND>(a))
    }
    #[inline(always)]
    fn of_integers(self, bits: __m512) -> __m512 {
        has_avx512!(_mm512_cvtepi32_ps(_mm512_castps_si512(bits)))
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        has_avx512!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn scale2(self, a: __m512, n: __m512) -> __m512 {
        has_avx512!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn scale2_down(self, a: __m512, n: __m512) -> __m512 {
        // Skip lanes with subnormal results, for which some processors take a hundred cycles.
        has_avx512!(
            let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(n, _mm512_set1_ps(-126.0));
            _mm512_maskz_scalef_ps(normal, a, n)
        )
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        has_avx512!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes))
    }
    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> u32 {
        has_avx512!(u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b)))
    }
    #[inline(always)]
    fn sum4(self, v: [__m512; 4]) -> [f32; 4] {
        tree!(_mm512_add_ps, v)
    }
    #[inline(always)]
    fn max4(self, v: [__m512; 4]) -> [f32; 4] {
        tree!(_mm512_max_ps, v)
    }
    #[inline(always)]
    fn first_lanes(self, v: __m512, n: usize, other: __m512) -> __m512 {
        has_avx512!(_mm512_mask_blend_ps(mask(n), other, v))
    }
    #[inline(always)]
    fn transpose(self, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize) {
        assert!(src.len() >= 15 * src_stride + 16 && dst.len() >= 15 * dst_stride + 16);
        has_avx512!(
            let mut rows = [_mm512_setzero_ps(); 16];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(src.as_ptr().add(i * src_stride));
            }
            // Pairs, then fours: `fours[4·i + c]` holds column c of each quarter, of rows 4·i to
            // 4·i + 3.
            let mut fours = [_mm512_setzero_ps(); 16];
            for i in 0..4 {
                let r = 4 * i;
                let a = _mm512_castps_pd(_mm512_unpacklo_ps(rows[r], rows[r + 1]));
                let b = _mm512_castps_pd(_mm512_unpackhi_ps(rows[r], rows[r + 1]));
                let c = _mm512_castps_pd(_mm512_unpacklo_ps(rows[r + 2], rows[r + 3]));
                let d = _mm512_castps_pd(_mm512_unpackhi_ps(rows[r + 2], rows[r + 3]));
                fours[r] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                fours[r + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                fours[r + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                fours[r + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
            }
            for c in 0..4 {
                // The even and the odd quarters of rows 0 to 7, and of rows 8 to 15.
                let even = _mm512_shuffle_f32x4::<0x88>(fours[c], fours[4 + c]);
                let odd = _mm512_shuffle_f32x4::<0xDD>(fours[c], fours[4 + c]);
                let even_below = _mm512_shuffle_f32x4::<0x88>(fours[8 + c], fours[12 + c]);
                let odd_below = _mm512_shuffle_f32x4::<0xDD>(fours[8 + c], fours[12 + c]);
                let columns = [
                    _mm512_shuffle_f32x4::<0x88>(even, even_below),
                    _mm512_shuffle_f32x4::<0x88>(odd, odd_below),
                    _mm512_shuffle_f32x4::<0xDD>(even, even_below),
                    _mm512_shuffle_f32x4::<0xDD>(odd, odd_below),
                ];
                for (quarter, column) in columns.into_iter().enumerate() {
                    _mm512_storeu_ps(dst.as_mut_ptr().add((4 * quarter + c) * dst_stride), column);
                }
            }
        )
    }
}
