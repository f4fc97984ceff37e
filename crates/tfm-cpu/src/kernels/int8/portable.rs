//! Plain Rust, which can lay out its operands as any other set does. So tests run the kernels in
//! every layout, even on a CPU that lacks the instructions.

use super::super::simd::{PortableFloats, Simd};
use super::{Dot, GROUP, OFFSET};

/// Vectors of `COLUMNS` columns.
#[derive(Clone, Copy, Default)]
pub(super) struct Portable<const COLUMNS: usize>;

impl<const COLUMNS: usize> Dot for Portable<COLUMNS> {
    type Floats = PortableFloats;
    /// The number plus [`OFFSET`].
    type Input = u8;
    type Inputs = [u8; GROUP];
    type Weights = [[i8; GROUP]; COLUMNS];
    type Sums = [i32; COLUMNS];

    const COLUMNS: usize = COLUMNS;
    const TILE_ROWS: usize = 4;
    const OFFSET: i32 = OFFSET;

    #[inline(always)]
    fn floats(self) -> PortableFloats {
        PortableFloats
    }
    #[inline(always)]
    fn store_inputs(self, x: [f32; 8], out: &mut [u8]) {
        for (out, x) in out[..PortableFloats::LANES].iter_mut().zip(x) {
            *out = (x.round_ties_even() as i32 + OFFSET) as u8;
        }
    }
    #[inline(always)]
    unsafe fn inputs(self, x: *const u8) -> [u8; GROUP] {
        // SAFETY: the caller's promise.
        unsafe { x.cast::<[u8; GROUP]>().read() }
    }
    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> Self::Weights {
        // SAFETY: the caller's promise.
        unsafe { w.cast::<Self::Weights>().read() }
    }
    #[inline(always)]
    unsafe fn start(self, start: *const i32) -> Self::Sums {
        // SAFETY: the caller's promise.
        unsafe { start.cast::<Self::Sums>().read() }
    }
    #[inline(always)]
    fn add(self, mut sums: Self::Sums, x: [u8; GROUP], w: Self::Weights) -> Self::Sums {
        for (sum, w) in sums.iter_mut().zip(w) {
            for (x, w) in x.into_iter().zip(w) {
                *sum += i32::from(x) * i32::from(w);
            }
        }
        sums
    }
    #[inline(always)]
    fn store(self, sums: Self::Sums, out: &mut [f32]) {
        out[..COLUMNS]
            .iter_mut()
            .zip(sums)
            .for_each(|(out, sum)| *out = f32::from_bits(sum as u32));
    }
    #[inline(always)]
    fn prefetch(self, _: *const i8) {}
}
