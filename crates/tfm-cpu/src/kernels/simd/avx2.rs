//! AVX2 with FMA: 8 lanes, 16 registers.

use std::arch::x86_64::*;

use half::bf16;

use super::{Kernel, Simd};

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx2(());

/// Whether the CPU has what [`enter`] is compiled for.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Runs `kernel` compiled for AVX2 with FMA.
///
/// # Safety
/// [`detected`] must have returned true.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

impl Avx2 {
    /// Whether the CPU has the instructions.
    pub(in crate::kernels) fn detected() -> bool {
        detected()
    }

    /// Makes the proof, for code that is compiled for these instructions and more.
    ///
    /// # Safety
    /// The CPU must have the instructions.
    pub(in crate::kernels) unsafe fn new() -> Self {
        Avx2(())
    }
}

macro_rules! has_avx2 {
    ($($body:tt)*) => {
        // SAFETY: only `enter` and `new` make an `Avx2` value, so the CPU has the instructions.
        // Memory is touched only through slices whose length was checked or masked.
        unsafe { $($body)* }
    };
}

/// The lowest `len` (at most 8) lanes.
#[inline(always)]
fn mask(len: usize) -> __m256i {
    static BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let lanes = &BITS[8 - len..][..8];
    has_avx2!(_mm256_loadu_si256(lanes.as_ptr().cast()))
}

/// 2ⁿ for an integral `n` in −126..=127.
#[inline(always)]
fn pow2(n: __m256) -> __m256 {
    has_avx2!(
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    )
}

/// The sums of the two halves' lanes, place by place.
#[inline(always)]
fn half(v: __m256) -> __m128 {
    has_avx2!(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)))
}

impl Simd for Avx2 {
    type F = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        has_avx2!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        assert!(x.len() >= 8);
        has_avx2!(_mm256_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> __m256 {
        if x.len() == 8 {
            return self.load(x);
        }
        has_avx2!(_mm256_maskload_ps(x.as_ptr(), mask(x.len())))
    }
    #[inline(always)]
    fn store(self, v: __m256, out: &mut [f32]) {
        assert!(out.len() >= 8);
        has_avx2!(_mm256_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn store_partial(self, v: __m256, out: &mut [f32]) {
        // A masked store takes some forty operations on many processors.
        if out.len() == 8 {
            return self.store(v, out);
        }
        has_avx2!(_mm256_maskstore_ps(out.as_mut_ptr(), mask(out.len()), v))
    }
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(x) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> __m256 {
        assert!(x.len() >= 8);
        has_avx2!(
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        )
    }
    #[inline(always)]
    fn load_bf16_partial(self, x: &[bf16]) -> __m256 {
        let mut all = [bf16::ZERO; 8];
        all[..x.len()].copy_from_slice(x);
        self.load_bf16(&all)
    }
    #[inline(always)]
    fn firsts(self, pairs: __m256) -> __m256 {
        has_avx2!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(pairs))))
    }
    #[inline(always)]
    fn seconds(self, pairs: __m256) -> __m256 {
        has_avx2!(
            let upper = _mm256_set1_epi32(0xffff_0000u32 as i32);
            _mm256_and_ps(pairs, _mm256_castsi256_ps(upper))
        )
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        has_avx2!(_mm_prefetch::<_MM_HINT_T0>(x.cast()))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        has_avx2!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        has_avx2!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        has_avx2!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        has_avx2!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        has_avx2!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        has_avx2!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        has_avx2!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        has_avx2!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn copysign(self, magnitude: __m256, sign: __m256) -> __m256 {
        has_avx2!(
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign))
        )
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        has_avx2!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn of_integers(self, bits: __m256) -> __m256 {
        has_avx2!(_mm256_cvtepi32_ps(_mm256_castps_si256(bits)))
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        has_avx2!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn scale2(self, a: __m256, n: __m256) -> __m256 {
        // In two steps, because 2ⁿ alone may not be a normal number where a · 2ⁿ is one.
        let half = self.round(self.mul(n, self.splat(0.5)));
        self.mul(self.mul(a, pow2(half)), pow2(self.sub(n, half)))
    }
    #[inline(always)]
    fn scale2_down(self, a: __m256, n: __m256) -> __m256 {
        // One step is enough: 2ⁿ is 0 where it is not normal.
        has_avx2!(
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            let exponent = _mm256_max_epi32(exponent, _mm256_setzero_si256());
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        )
    }
    #[inline(always)]
    fn select_lt(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        has_avx2!(_mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    fn gt(self, a: __m256, b: __m256) -> u32 {
        has_avx2!(_mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) as u32)
    }
    #[inline(always)]
    fn sum4(self, v: [__m256; 4]) -> [f32; 4] {
        has_avx2!(
            let [a, b, c, d] = [half(v[0]), half(v[1]), half(v[2]), half(v[3])];
            let sums = _mm_hadd_ps(_mm_hadd_ps(a, b), _mm_hadd_ps(c, d));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        )
    }
    #[inline(always)]
    fn max4(self, v: [__m256; 4]) -> [f32; 4] {
        has_avx2!(
            let mut halves = [_mm_setzero_ps(); 4];
            for (half, v) in halves.iter_mut().zip(v) {
                *half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            }
            let [mut a, mut b, mut c, mut d] = halves;
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), _mm_max_ps(_mm_max_ps(a, b), _mm_max_ps(c, d)));
            out
        )
    }
    #[inline(always)]
    fn first_lanes(self, v: __m256, n: usize, other: __m256) -> __m256 {
        has_avx2!(_mm256_blendv_ps(other, v, _mm256_castsi256_ps(mask(n))))
    }
    #[inline(always)]
    fn transpose(self, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize) {
        assert!(src.len() >= 7 * src_stride + 8 && dst.len() >= 7 * dst_stride + 8);
        has_avx2!(
            let mut rows = [_mm256_setzero_ps(); 8];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(src.as_ptr().add(i * src_stride));
            }
            // Pairs, then fours: `fours[4·i + c]` holds column c of each half, of rows 4·i to
            // 4·i + 3.
            let mut fours = [_mm256_setzero_ps(); 8];
            for i in 0..2 {
                let r = 4 * i;
                let a = _mm256_castps_pd(_mm256_unpacklo_ps(rows[r], rows[r + 1]));
                let b = _mm256_castps_pd(_mm256_unpackhi_ps(rows[r], rows[r + 1]));
                let c = _mm256_castps_pd(_mm256_unpacklo_ps(rows[r + 2], rows[r + 3]));
                let d = _mm256_castps_pd(_mm256_unpackhi_ps(rows[r + 2], rows[r + 3]));
                fours[r] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
                fours[r + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
                fours[r + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
                fours[r + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
            }
            for c in 0..4 {
                let low = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
                let high = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
                _mm256_storeu_ps(dst.as_mut_ptr().add(c * dst_stride), low);
                _mm256_storeu_ps(dst.as_mut_ptr().add((c + 4) * dst_stride), high);
            }
        )
    }
}
