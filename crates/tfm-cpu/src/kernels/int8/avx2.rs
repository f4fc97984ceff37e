//! AVX2. `vpmaddubsw` multiplies unsigned by signed bytes and adds two products to 16 bits. These
//! sums do not saturate, since weights are bounded ([`tfm_core::fused::Precision::Int8`]).
//! `vpmaddwd` by ones then adds two of them to 32 bits. (Products of 16-bit integers, which need no
//! bounded weights, were a quarter slower.)

use std::arch::x86_64::*;

use super::super::simd::Avx2Floats;
use super::{Dot, DotKernel, OFFSET};

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(Avx2Floats);

/// Whether the CPU has what [`enter`] is compiled for.
pub(super) fn detected() -> bool {
    Avx2Floats::detected()
}

/// Runs `kernel` compiled for AVX2.
///
/// # Safety
/// [`detected`] must have returned true.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn enter<K: DotKernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    kernel.run(Avx2(unsafe { Avx2Floats::new() }))
}

macro_rules! has_avx2 {
    ($($body:tt)*) => {
        // SAFETY: only `enter` makes an `Avx2` value, so the CPU has the instructions. Memory is
        // touched only through slices whose length was checked.
        unsafe { $($body)* }
    };
}

impl Dot for Avx2 {
    type Floats = Avx2Floats;
    /// The number plus [`OFFSET`].
    type Input = u8;
    type Inputs = __m256i;
    type Weights = __m256i;
    type Sums = __m256i;

    const COLUMNS: usize = 8;
    const TILE_ROWS: usize = 6;
    const OFFSET: i32 = OFFSET;

    #[inline(always)]
    fn floats(self) -> Avx2Floats {
        self.0
    }
    #[inline(always)]
    fn store_inputs(self, x: __m256, out: &mut [u8]) {
        assert!(out.len() >= 8);
        has_avx2!(
            let wide = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(Self::OFFSET));
            let (low, high) =
                (_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            let short = _mm_packs_epi32(low, high);
            _mm_storel_epi64(out.as_mut_ptr().cast(), _mm_packus_epi16(short, short))
        )
    }
    #[inline(always)]
    unsafe fn inputs(self, x: *const u8) -> __m256i {
        // SAFETY: the caller's promise: there are four numbers, which have four bytes together.
        has_avx2!(_mm256_set1_epi32(x.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        has_avx2!(_mm256_loadu_si256(w.cast()))
    }
    #[inline(always)]
    unsafe fn start(self, start: *const i32) -> __m256i {
        // SAFETY: the caller's promise.
        has_avx2!(_mm256_loadu_si256(start.cast()))
    }
    #[inline(always)]
    fn add(self, sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        has_avx2!(
            let pairs = _mm256_maddubs_epi16(x, w);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        )
    }
    #[inline(always)]
    fn store(self, sums: __m256i, out: &mut [f32]) {
        assert!(out.len() >= 8);
        has_avx2!(_mm256_storeu_ps(out.as_mut_ptr(), _mm256_castsi256_ps(sums)))
    }
    #[inline(always)]
    fn prefetch(self, w: *const i8) {
        has_avx2!(_mm_prefetch::<_MM_HINT_T0>(w))
    }
}
