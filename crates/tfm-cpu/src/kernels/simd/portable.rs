//! Plain Rust over arrays of 8, which compilers turn into the vectors that the target has.

use half::bf16;

use super::Simd;

/// The set that every CPU has.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Portable;

const LANES: usize = 8;
type F = [f32; LANES];

#[inline(always)]
fn map2(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F = F;
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> F {
        std::array::from_fn(|i| x[i])
    }
    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> F {
        assert!(x.len() <= LANES);
        let mut v = [0.0; LANES];
        v[..x.len()].copy_from_slice(x);
        v
    }
    #[inline(always)]
    fn store(self, v: F, out: &mut [f32]) {
        out[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_partial(self, v: F, out: &mut [f32]) {
        out.copy_from_slice(&v[..out.len()]);
    }
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> F {
        // SAFETY: the caller's promise.
        unsafe { x.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> F {
        self.load_bf16_partial(&x[..LANES])
    }
    #[inline(always)]
    fn load_bf16_partial(self, x: &[bf16]) -> F {
        assert!(x.len() <= LANES);
        let mut v = [0.0; LANES];
        v.iter_mut().zip(x).for_each(|(v, x)| *v = f32::from_bits(u32::from(x.to_bits()) << 16));
        v
    }
    #[inline(always)]
    fn firsts(self, pairs: F) -> F {
        pairs.map(|pair| f32::from_bits(pair.to_bits() << 16))
    }
    #[inline(always)]
    fn seconds(self, pairs: F) -> F {
        pairs.map(|pair| f32::from_bits(pair.to_bits() & 0xffff_0000))
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        // Where the target has no such instruction, `mul_add` would be a slow library call.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn copysign(self, magnitude: F, sign: F) -> F {
        map2(magnitude, sign, f32::copysign)
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        // Adding and subtracting 1.5·2²³ leaves no bits for a fraction.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|a| (a + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn of_integers(self, bits: F) -> F {
        bits.map(|x| x.to_bits() as i32 as f32)
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn scale2(self, a: F, n: F) -> F {
        // In two steps, because 2ⁿ alone may not be a normal number where a · 2ⁿ is one.
        #[inline(always)]
        fn pow2(n: i32) -> f32 {
            f32::from_bits(((n + 127) << 23) as u32)
        }
        map2(a, n, |a, n| {
            let n = n as i32;
            a * pow2(n >> 1) * pow2(n - (n >> 1))
        })
    }
    #[inline(always)]
    fn scale2_down(self, a: F, n: F) -> F {
        // One step is enough: 2ⁿ is 0 where it is not normal.
        map2(a, n, |a, n| a * f32::from_bits(((n as i32 + 127).max(0) << 23) as u32))
    }
    #[inline(always)]
    fn select_lt(self, a: F, b: F, yes: F, no: F) -> F {
        std::array::from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn gt(self, a: F, b: F) -> u32 {
        (0..LANES).fold(0, |lanes, i| lanes | u32::from(a[i] > b[i]) << i)
    }
    #[inline(always)]
    fn sum4(self, v: [F; 4]) -> [f32; 4] {
        v.map(|v| {
            let h: [f32; 4] = std::array::from_fn(|i| v[i] + v[i + 4]);
            (h[0] + h[1]) + (h[2] + h[3])
        })
    }
    #[inline(always)]
    fn max4(self, v: [F; 4]) -> [f32; 4] {
        v.map(|v| v.into_iter().fold(f32::NEG_INFINITY, f32::max))
    }
    #[inline(always)]
    fn first_lanes(self, mut v: F, n: usize, other: F) -> F {
        v[n..].copy_from_slice(&other[n..]);
        v
    }
    #[inline(always)]
    fn transpose(self, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize) {
        let mut rows = [[0.0; LANES]; LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            row.copy_from_slice(&src[i * src_stride..][..LANES]);
        }
        for j in 0..LANES {
            let column: F = std::array::from_fn(|i| rows[i][j]);
            dst[j * dst_stride..][..LANES].copy_from_slice(&column);
        }
    }
}
