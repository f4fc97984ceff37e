//! Rounds floats to `bf16`, which is the upper half of an `f32`.

use half::bf16;

use super::simd::{Isa, Kernel, Simd};

/// The bits of the nearest `bf16`, ties to even, in the upper half of a word.
#[inline(always)]
pub(super) fn upper(x: f32) -> u32 {
    let bits = x.to_bits();
    // Adding half of the lower part's range, less one if the upper part is even, rounds ties to
    // even. A NaN stays a NaN.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    if x.is_nan() { bits & 0xffff_0000 | 0x0040_0000 } else { rounded }
}

/// Rounds each number to the nearest `bf16`. Panics when the lengths differ.
pub fn round_to_bf16(isa: Isa, x: &[f32], out: &mut [bf16]) {
    assert_eq!(x.len(), out.len());
    isa.run(Round { x, out });
}

struct Round<'a> {
    x: &'a [f32],
    out: &'a mut [bf16],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (&x, out) in self.x.iter().zip(self.out) {
            *out = bf16::from_bits((upper(x) >> 16) as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::noise;

    #[test]
    fn rounds_to_the_nearest_and_keeps_what_is_not_finite() {
        let mut x = noise(1, 77);
        x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-40]);
        // Ties, of which the lower and then the upper neighbour is even; a number just above a tie;
        // and a NaN only in the lower half of the bits.
        x.extend([0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7f80_0001].map(f32::from_bits));
        let want: Vec<u16> = x.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
        for isa in Isa::available() {
            let mut out = vec![bf16::ZERO; x.len()];
            round_to_bf16(isa, &x, &mut out);
            assert_eq!(out.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want, "{isa:?}");
        }
    }
}
