//! Rounding to `bf16`, the numbers staying `f32`.

use super::rows::Rows;
use super::simd::{Isa, Kernel, Simd};
use super::threads::Threads;

/// `out [m, n]`: each element of `x` rounded to the nearest `bf16`, ties to even.
pub fn round_rows(isa: Isa, threads: &Threads, x: Rows<'_>, out: &mut [f32]) {
    let cols = x.cols();
    assert_eq!(out.len(), x.rows() * cols);
    threads.rows(out, cols, 4 * cols, |rows, out| {
        for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
            isa.run(Round { x: x.row(row), out });
        }
    });
}

struct Round<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (x, out) in self.x.iter().zip(self.out) {
            let bits = x.to_bits();
            // Half of the lower part's range, less one where the upper part is even; a NaN stays one.
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
            *out = f32::from_bits(if x.is_nan() { bits | 0x0040_0000 } else { rounded });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    #[test]
    fn rounds_as_the_type_does() {
        let mut x = noise(1, 1000);
        // Ties, whose upper parts are even and odd; what rounds to infinity; infinities and small numbers.
        let bits = [0x3f80_8000u32, 0x3f81_8000, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 1, 0x8000];
        x.extend(bits.map(f32::from_bits));
        let want: Vec<f32> = x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
        everywhere(|isa, threads| {
            let mut out = vec![0.0; x.len()];
            round_rows(isa, threads, Rows::contiguous(&x, x.len()), &mut out);
            assert_same_bits(&out, &want);
        });
        let (threads, mut out) = (Threads::new(1).unwrap(), [0.0]);
        round_rows(Isa::best(), &threads, Rows::contiguous(&[f32::NAN], 1), &mut out);
        assert!(out[0].is_nan());
    }
}
