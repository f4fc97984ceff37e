//! Vectors of `f32` behind one trait. The instruction set is chosen at run time.
//!
//! A kernel is a struct of its arguments that implements [`Kernel`]. Its `run` is generic over
//! [`Simd`] and `#[inline(always)]`, and [`Isa::run`] enters it through a function that is compiled
//! for the chosen instruction set. So a kernel is written once, and compiled for each set.
//!
//! Everything that handles a vector must be inlined into that function. Loops and
//! `#[inline(always)]` functions are. Closures given to `array::map`, `array::from_fn` and the like
//! may not be, and are then very slow.

use half::bf16;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::matrix_unit::Amx;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2 as Avx2Floats;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512 as Avx512Floats;
#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon as NeonFloats;
pub(super) use portable::Portable as PortableFloats;

/// The vector operations of one instruction set.
///
/// A value of an implementing type proves that the running CPU has the instructions.
pub trait Simd: Copy + Send + Sync {
    /// A vector of [`LANES`](Simd::LANES) `f32`.
    type F: Copy;
    /// Elements in a vector.
    const LANES: usize;
    /// Rows of a matrix product's register tile, two vectors wide, that needs no spilling.
    const TILE_ROWS: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// The first `LANES` elements of `x`. Panics if there are fewer.
    fn load(self, x: &[f32]) -> Self::F;
    /// The elements of `x` (at most `LANES` of them), the other lanes zero.
    fn load_partial(self, x: &[f32]) -> Self::F;
    /// Writes the first `LANES` elements of `out`. Panics if there are fewer.
    fn store(self, v: Self::F, out: &mut [f32]);
    /// Writes as many lanes as `out` has elements (at most `LANES`).
    fn store_partial(self, v: Self::F, out: &mut [f32]);
    /// `LANES` elements from `x`.
    ///
    /// # Safety
    /// `x` must be readable for `LANES` elements.
    unsafe fn load_ptr(self, x: *const f32) -> Self::F;

    /// The first `LANES` elements of `x`, as `f32`. Panics if there are fewer.
    fn load_bf16(self, x: &[bf16]) -> Self::F;
    /// The elements of `x` (at most `LANES` of them) as `f32`, the other lanes zero.
    fn load_bf16_partial(self, x: &[bf16]) -> Self::F;

    /// The first number in each lane of two `bf16`, which is the lower half.
    fn firsts(self, pairs: Self::F) -> Self::F;
    /// The second number in each lane of two `bf16`, which is the upper half.
    fn seconds(self, pairs: Self::F) -> Self::F;
    /// `acc + x₁·w₁ + x₀·w₀`, added in this order, for lanes of two `bf16`. A single instruction
    /// does it, which takes subnormal numbers as 0.
    ///
    /// # Safety
    /// [`Isa::multiplies_pairs`] must be true for this set.
    #[inline(always)]
    unsafe fn add_pairs_at_once(self, acc: Self::F, x: Self::F, w: Self::F) -> Self::F {
        let acc = self.fma(self.seconds(x), self.seconds(w), acc);
        self.fma(self.firsts(x), self.firsts(w), acc)
    }

    /// Prefetches the cache line of `x`, which need not be readable, for a read or a write.
    fn prefetch(self, x: *const f32);

    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, with one rounding where the CPU can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: the second operand where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: the second operand where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `|a|`.
    fn abs(self, a: Self::F) -> Self::F;
    /// `|magnitude|` with the sign of `sign`.
    fn copysign(self, magnitude: Self::F, sign: Self::F) -> Self::F;
    /// The nearest integer, ties to even, for |a| < 2²².
    fn round(self, a: Self::F) -> Self::F;
    /// The numbers of the 32-bit integers whose bits the lanes have.
    fn of_integers(self, bits: Self::F) -> Self::F;
    /// `√a`.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a · 2ⁿ` for an integral `n` in −252..=254, right for subnormal results and overflow.
    fn scale2(self, a: Self::F, n: Self::F) -> Self::F;
    /// `a · 2ⁿ` for `a` from 1/2 to 2 and an integral `n` in −252..=0. A result that is not normal
    /// may be 0 instead.
    #[inline(always)]
    fn scale2_down(self, a: Self::F, n: Self::F) -> Self::F {
        self.scale2(a, n)
    }
    /// `if a < b { yes } else { no }`.
    fn select_lt(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// The lanes that have `a > b`, lane i as bit i.
    fn gt(self, a: Self::F, b: Self::F) -> u32;

    /// The sum of each vector's lanes, always by the same tree.
    fn sum4(self, v: [Self::F; 4]) -> [f32; 4];
    /// The sum of the lanes, by the tree of [`sum4`](Simd::sum4).
    #[inline(always)]
    fn sum(self, v: Self::F) -> f32 {
        self.sum4([v; 4])[0]
    }
    /// The greatest of each vector's lanes, which is unspecified if one is NaN.
    fn max4(self, v: [Self::F; 4]) -> [f32; 4];
    /// The greatest lane, which is unspecified if one is NaN.
    #[inline(always)]
    fn max_lane(self, v: Self::F) -> f32 {
        self.max4([v; 4])[0]
    }
    /// The first `n` (at most `LANES`) lanes of `v`, and the others of `other`.
    fn first_lanes(self, v: Self::F, n: usize, other: Self::F) -> Self::F;

    /// Transposes `LANES` × `LANES` elements: `dst[j·dst_stride + i] = src[i·src_stride + j]`.
    /// Panics if either slice is too short.
    fn transpose(self, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize);
}

/// A kernel with its arguments, to be run by [`Isa::run`].
pub trait Kernel {
    /// What the kernel returns.
    type Output;
    /// The kernel's body; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 for floats; products of integers have the [matrix unit](super::matrix_unit) too.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// An instruction set that the running CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set);

impl Isa {
    /// The names that [`Isa::by_name`] knows.
    pub const NAMES: [&'static str; 5] = ["portable", "avx2", "avx512", "amx", "neon"];

    /// Every set that this CPU has, the slowest first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut all = vec![Isa(Set::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::detected() {
                all.push(Isa(Set::Avx2));
            }
            if avx512::detected() {
                all.push(Isa(Set::Avx512));
                #[cfg(target_os = "linux")]
                if Amx::detect().is_some() {
                    all.push(Isa(Set::Amx));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if neon::detected() {
            all.push(Isa(Set::Neon));
        }
        all
    }

    /// The fastest set that this CPU has.
    pub fn best() -> Isa {
        Self::available().pop().unwrap_or(Isa(Set::Portable))
    }

    /// The set of that name, if this CPU has it.
    pub fn by_name(name: &str) -> Option<Isa> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// The set's name, one of [`Isa::NAMES`].
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
        }
    }

    /// Runs `kernel` in code compiled for this set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable => kernel.run(portable::Portable),
            // SAFETY: only `available` makes this value, after detection.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::enter(kernel) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => unsafe { avx512::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Set::Neon => unsafe { neon::enter(kernel) },
        }
    }

    /// Whether this set has an instruction that multiplies pairs of `bf16`.
    pub fn multiplies_pairs(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => is_x86_feature_detected!("avx512bf16"),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => Isa(Set::Avx512).multiplies_pairs(),
            _ => false,
        }
    }

    /// Whether that instruction does in one cycle what takes multiply-adds two.
    pub fn multiplies_pairs_fast(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => self.multiplies_pairs() && avx512::pairs_are_fast(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => Isa(Set::Avx512).multiplies_pairs_fast(),
            _ => false,
        }
    }

    /// Elements in this set's vectors.
    pub fn lanes(self) -> usize {
        self.run(Extents).0
    }

    /// Rows of a matrix product's register tile in this set.
    pub fn tile_rows(self) -> usize {
        self.run(Extents).1
    }
}

/// [`Simd::LANES`] and [`Simd::TILE_ROWS`].
struct Extents;

impl Kernel for Extents {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (S::LANES, S::TILE_ROWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check;
    impl Kernel for Check {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let n = S::LANES;
            let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.75 - 3.1).collect();
            let b: Vec<f32> = (0..n).map(|i| 2.0 - i as f32 * 0.5).collect();
            let (va, vb) = (s.load(&a), s.load(&b));
            let out = |v: S::F| {
                let mut out = vec![0.0; n];
                s.store(v, &mut out);
                out
            };
            let each = |v: S::F, f: &dyn Fn(f32, f32) -> f32| {
                let want: Vec<f32> = a.iter().zip(&b).map(|(&a, &b)| f(a, b)).collect();
                assert_eq!(out(v), want);
            };
            each(s.add(va, vb), &|a, b| a + b);
            each(s.sub(va, vb), &|a, b| a - b);
            each(s.mul(va, vb), &|a, b| a * b);
            each(s.div(va, s.splat(1.7)), &|a, _| a / 1.7);
            each(s.max(va, vb), &|a, b| a.max(b));
            each(s.min(va, vb), &|a, b| a.min(b));
            each(s.abs(va), &|a, _| a.abs());
            each(s.copysign(va, vb), &|a, b| a.copysign(b));
            each(s.round(va), &|a, _| a.round_ties_even());
            let integers: Vec<i32> = (0..n as i32).map(|i| (i - 3) * 123_456_789).collect();
            let bits: Vec<f32> = integers.iter().map(|&i| f32::from_bits(i as u32)).collect();
            let want: Vec<f32> = integers.iter().map(|&i| i as f32).collect();
            assert_eq!(out(s.of_integers(s.load(&bits))), want);
            each(s.sqrt(s.abs(va)), &|a, _| a.abs().sqrt());
            each(s.select_lt(va, vb, va, vb), &|a, b| if a < b { a } else { b });
            each(s.scale2(va, s.splat(-3.0)), &|a, _| a / 8.0);
            each(s.scale2(s.splat(1.5), s.splat(-148.0)), &|_, _| {
                1.5 * 2f32.powi(-100) * 2f32.powi(-48)
            });
            each(s.scale2(s.splat(1.5), s.splat(128.0)), &|_, _| f32::INFINITY);
            each(s.scale2(s.splat(0.75), s.splat(128.0)), &|_, _| 1.5 * 2f32.powi(127));
            each(s.scale2_down(va, s.splat(-3.0)), &|a, _| a / 8.0);
            each(s.scale2_down(s.splat(1.5), s.splat(-126.0)), &|_, _| 1.5 * f32::MIN_POSITIVE);
            each(s.scale2_down(s.splat(0.7), s.splat(-150.0)), &|_, _| 0.0);
            let fused = out(s.fma(va, vb, va));
            for i in 0..n {
                assert!((fused[i] - (a[i] * b[i] + a[i])).abs() < 1e-5);
            }
            let nan = s.splat(f32::NAN);
            each(s.max(nan, va), &|a, _| a);
            each(s.min(nan, va), &|a, _| a);
            assert!(out(s.max(va, nan)).iter().all(|x| x.is_nan()));
            for len in 0..=n {
                let mut part = vec![9.0; n + 1];
                s.store_partial(s.load_partial(&a[..len]), &mut part[..len]);
                assert_eq!(part[..len], a[..len]);
                assert_eq!(part[len], 9.0);
                assert!(out(s.load_partial(&a[..len]))[len..].iter().all(|&x| x == 0.0));
            }
            let sums = s.sum4([va, vb, s.add(va, vb), s.splat(0.0)]);
            assert_eq!(sums[0], s.sum(va));
            assert_eq!(sums[1], s.sum(vb));
            assert!((sums[0] - a.iter().sum::<f32>()).abs() < 1e-4);
            assert!((sums[2] - sums[0] - sums[1]).abs() < 1e-4 && sums[3] == 0.0);
            let square: Vec<f32> = (0..n * (n + 3)).map(|i| i as f32).collect();
            let mut turned = vec![-1.0; n * (n + 1)];
            s.transpose(&square[..(n - 1) * (n + 3) + n], n + 3, &mut turned, n + 1);
            for (e, &x) in turned.iter().enumerate() {
                let (j, i) = (e / (n + 1), e % (n + 1));
                assert_eq!(x, if i < n { square[i * (n + 3) + j] } else { -1.0 });
            }
            assert_eq!(s.max_lane(vb), 2.0);
            let last = a[n - 1];
            assert_eq!(s.max4([vb, va, s.splat(-1.0), nan])[..3], [2.0, last, -1.0]);
            for len in 0..=n {
                let want: Vec<f32> = a[..len].iter().chain(&b[len..]).copied().collect();
                assert_eq!(out(s.first_lanes(va, len, vb)), want);
            }
            let greater = (0..n).filter(|&i| a[i] > b[i]).map(|i| 1 << i).sum();
            assert_eq!((s.gt(va, vb), s.gt(va, s.splat(100.0)), s.gt(va, nan)), (greater, 0, 0));
        }
    }

    #[test]
    fn every_set_computes_what_scalars_compute() {
        for isa in Isa::available() {
            isa.run(Check);
            assert_eq!(Isa::by_name(isa.name()), Some(isa));
        }
        assert_eq!(Isa::by_name("no such set"), None);
    }
}
