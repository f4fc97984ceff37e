//! AVX-512 with VNNI: `vpdpbusd` multiplies unsigned by signed bytes and adds four products to 32
//! bits.

use std::arch::x86_64::*;

use super::super::simd::Avx512Floats;
use super::{Dot, DotKernel, OFFSET};

/// Proof that the CPU has AVX-512 and VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni(Avx512Floats);

/// Whether the CPU has what [`enter`] is compiled for.
pub(super) fn detected() -> bool {
    Avx512Floats::detected() && is_x86_feature_detected!("avx512vnni")
}

/// Runs `kernel` compiled for AVX-512 with VNNI.
///
/// # Safety
/// [`detected`] must have returned true.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
pub(super) unsafe fn enter<K: DotKernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    kernel.run(Avx512Vnni(unsafe { Avx512Floats::new() }))
}

macro_rules! has_vnni {
    ($($body:tt)*) => {
        // SAFETY: only `enter` makes an `Avx512Vnni` value, so the CPU has the instructions. Memory
        // is touched only through slices whose length was checked.
        unsafe { $($body)* }
    };
}

impl Dot for Avx512Vnni {
    type Floats = Avx512Floats;
    /// The number plus [`OFFSET`].
    type Input = u8;
    type Inputs = __m512i;
    type Weights = __m512i;
    type Sums = __m512i;

    const COLUMNS: usize = 16;
    const TILE_ROWS: usize = 8;
    const OFFSET: i32 = OFFSET;

    #[inline(always)]
    fn floats(self) -> Avx512Floats {
        self.0
    }
    #[inline(always)]
    fn store_inputs(self, x: __m512, out: &mut [u8]) {
        assert!(out.len() >= 16);
        has_vnni!(
            let wide = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(Self::OFFSET));
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(wide))
        )
    }
    #[inline(always)]
    unsafe fn inputs(self, x: *const u8) -> __m512i {
        // SAFETY: the caller's promise: there are four numbers, which have four bytes together.
        has_vnni!(_mm512_set1_epi32(x.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> __m512i {
        // SAFETY: the caller's promise.
        has_vnni!(_mm512_loadu_si512(w.cast()))
    }
    #[inline(always)]
    unsafe fn start(self, start: *const i32) -> __m512i {
        // SAFETY: the caller's promise.
        has_vnni!(_mm512_loadu_si512(start.cast()))
    }
    #[inline(always)]
    fn add(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        has_vnni!(_mm512_dpbusd_epi32(sums, x, w))
    }
    #[inline(always)]
    fn store(self, sums: __m512i, out: &mut [f32]) {
        assert!(out.len() >= 16);
        has_vnni!(_mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(sums)))
    }
    #[inline(always)]
    fn prefetch(self, w: *const i8) {
        has_vnni!(_mm_prefetch::<_MM_HINT_T0>(w))
    }
    #[inline(always)]
    fn prefetch_far(self, w: *const i8) {
        has_vnni!(_mm_prefetch::<_MM_HINT_T1>(w))
    }
}
