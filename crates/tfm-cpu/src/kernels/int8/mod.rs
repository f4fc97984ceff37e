//! Products of 8-bit integers with exact sums, for weights and activations of lower precision
//! ([`tfm_core::fused::Precision::Int8`]).
//!
//! As with [`super::simd`], kernels are written once, over the trait [`Dot`], and compiled for each
//! instruction set that multiplies small integers. All sets compute the same sums; they differ in
//! how operands lie in registers. So any set can test the rows, tiles and tails of the kernels.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
pub mod gemm;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
pub mod pack;
mod portable;
pub mod quantize;
mod tile;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::matrix_unit::Amx;
#[cfg(test)]
use super::matrix_unit::Model;
use super::matrix_unit::Unit;
use super::simd::{Isa, Simd};

/// Inputs that one operation multiplies and adds up.
pub const GROUP: usize = 4;

/// Vectors of weights in the width of a panel.
pub const PANEL_VECTORS: usize = 2;

/// The number that sets which multiply unsigned by signed bytes add to inputs.
const OFFSET: i32 = 127;

/// Zeros follow the inputs of a quantised row, up to a multiple of this.
pub const ROW_MULTIPLE: usize = 16;

/// The dot products of one instruction set.
///
/// A value of an implementing type proves that the running CPU has the instructions.
pub trait Dot: Copy + Send + Sync {
    /// The vectors of floats that belong to this set.
    type Floats: Simd;
    /// How a quantised input is stored.
    type Input: Copy + Default + Send + Sync;
    /// [`GROUP`] inputs of one row, repeated in each place of a vector.
    type Inputs: Copy;
    /// The weights of [`GROUP`] inputs, for each of [`COLUMNS`](Dot::COLUMNS) output columns.
    type Weights: Copy;
    /// The sums of `COLUMNS` output columns.
    type Sums: Copy;

    /// Output columns of a vector of weights.
    const COLUMNS: usize;
    /// Rows of a register tile, [`PANEL_VECTORS`] vectors of columns wide, that needs no spilling.
    const TILE_ROWS: usize;
    /// How much greater stored inputs are than the numbers they stand for.
    const OFFSET: i32;

    /// The vectors of floats.
    fn floats(self) -> Self::Floats;

    /// Rounds a vector to the nearest integers (ties to even), in −127..=127, and stores them as
    /// inputs. Writes the first `Floats::LANES` elements of `out`, and panics if there are fewer.
    fn store_inputs(self, x: <Self::Floats as Simd>::F, out: &mut [Self::Input]);

    /// [`GROUP`] inputs from `x`.
    ///
    /// # Safety
    /// `x` must be readable for [`GROUP`] inputs.
    unsafe fn inputs(self, x: *const Self::Input) -> Self::Inputs;

    /// `COLUMNS`·[`GROUP`] weights from `w`.
    ///
    /// # Safety
    /// `w` must be readable for that number of weights.
    unsafe fn weights(self, w: *const i8) -> Self::Weights;

    /// `COLUMNS` sums to begin with: −[`OFFSET`](Dot::OFFSET) times the sum of a column's weights,
    /// or sums that were [stored](Dot::store).
    ///
    /// # Safety
    /// `start` must be readable for `COLUMNS` sums.
    unsafe fn start(self, start: *const i32) -> Self::Sums;

    /// Adds the products of these inputs and weights to the sums, exactly.
    fn add(self, sums: Self::Sums, x: Self::Inputs, w: Self::Weights) -> Self::Sums;

    /// Writes the bits of `COLUMNS` sums, from which [`start`](Dot::start) continues. Panics if
    /// `out` is shorter.
    fn store(self, sums: Self::Sums, out: &mut [f32]);

    /// Prefetches the cache line of `w`, which need not be readable.
    fn prefetch(self, w: *const i8);

    /// Prefetches the cache line of `w`, which need not be readable, into the second-level cache.
    #[inline(always)]
    fn prefetch_far(self, w: *const i8) {
        self.prefetch(w);
    }
}

/// A kernel with its arguments, to be run by [`DotIsa::run`].
pub trait DotKernel {
    /// What the kernel returns.
    type Output;
    /// The kernel's body; implementations are `#[inline(always)]`.
    fn run<D: Dot>(self, d: D) -> Self::Output;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    /// Plain Rust with the operands laid out as for AVX-512's instructions, and a model of the
    /// matrix unit.
    #[cfg(test)]
    Likeness,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// AVX-512 with VNNI, and the matrix unit.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

/// An instruction set for dot products of integers that the running CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotIsa(Set);

impl DotIsa {
    /// Every set that this CPU has, and another layout of operands in plain Rust.
    #[cfg(test)]
    pub(crate) fn tested() -> Vec<DotIsa> {
        let mut all = DotIsa::available();
        all.push(DotIsa(Set::Likeness));
        all
    }

    /// Plain Rust with a model of the matrix unit.
    #[cfg(test)]
    pub(crate) fn likeness() -> DotIsa {
        DotIsa(Set::Likeness)
    }

    /// Every set that this CPU has.
    pub fn available() -> Vec<DotIsa> {
        #[allow(unused_mut)]
        let mut all = vec![DotIsa(Set::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::detected() {
                all.push(DotIsa(Set::Avx2));
            }
            if avx_vnni::detected() {
                all.push(DotIsa(Set::AvxVnni));
            }
            if avx512_vnni::detected() {
                all.push(DotIsa(Set::Avx512Vnni));
            }
            #[cfg(target_os = "linux")]
            if avx512_vnni::detected() && Amx::detect().is_some() {
                all.push(DotIsa(Set::Amx));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if neon_dot::detected() {
            all.push(DotIsa(Set::NeonDot));
        }
        all
    }

    /// The fastest set that is no wider than `isa`.
    pub fn of(isa: Isa) -> DotIsa {
        let widest = match isa.name() {
            "portable" => 0,
            "avx2" => 2,
            "avx512" => 3,
            _ => 4,
        };
        let mut all = DotIsa::available();
        all.retain(|set| set.rank() <= widest);
        all.pop().unwrap_or(DotIsa(Set::Portable))
    }

    fn rank(self) -> usize {
        match self.0 {
            Set::Portable => 0,
            #[cfg(test)]
            Set::Likeness => 0,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => 1,
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => 2,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => 3,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => 4,
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => 1,
        }
    }

    /// The set's name.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(test)]
            Set::Likeness => "likeness",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => "avx512-vnni",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => "amx-int8",
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => "neon-dot",
        }
    }

    /// Runs `kernel` in code compiled for this set.
    #[inline]
    pub fn run<K: DotKernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable => kernel.run(portable::Portable::<8>),
            #[cfg(test)]
            Set::Likeness => kernel.run(portable::Portable::<16>),
            // SAFETY: only `available` makes this value, after detection.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => unsafe { avx_vnni::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => unsafe { avx512_vnni::enter(kernel) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => unsafe { avx512_vnni::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => unsafe { neon_dot::enter(kernel) },
        }
    }

    /// Whether this set has a matrix unit.
    pub fn has_unit(self) -> bool {
        match self.0 {
            #[cfg(test)]
            Set::Likeness => true,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => true,
            _ => false,
        }
    }

    /// Runs `kernel` with this set's matrix unit. Panics if it [has none](DotIsa::has_unit).
    #[inline]
    fn run_on_unit<K: UnitKernel>(self, kernel: K) {
        match self.0 {
            #[cfg(test)]
            Set::Likeness => self.run(OnUnit { kernel, unit: Model }),
            // SAFETY: only `available` makes this value, after detection.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx => self.run(OnUnit { kernel, unit: unsafe { Amx::assume() } }),
            _ => unreachable!("{} has no matrix unit", self.name()),
        }
    }

    /// The output columns of a panel, and how much greater stored inputs are than their numbers.
    pub fn layout(self) -> (usize, i32) {
        self.run(Layout)
    }
}

/// The panel's width and [`Dot::OFFSET`].
struct Layout;

impl DotKernel for Layout {
    type Output = (usize, i32);

    #[inline(always)]
    fn run<D: Dot>(self, _: D) -> (usize, i32) {
        (PANEL_VECTORS * D::COLUMNS, D::OFFSET)
    }
}

/// A kernel with its arguments, to be run by [`DotIsa::run_on_unit`].
trait UnitKernel {
    /// The kernel's body; implementations are `#[inline(always)]`.
    fn run<D: Dot, U: Unit>(self, d: D, unit: U);
}

/// A kernel and the unit that it runs on.
struct OnUnit<K, U> {
    kernel: K,
    unit: U,
}

impl<K: UnitKernel, U: Unit> DotKernel for OnUnit<K, U> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot>(self, d: D) {
        self.kernel.run(d, self.unit);
    }
}
