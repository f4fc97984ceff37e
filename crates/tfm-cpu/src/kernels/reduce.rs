//! Sums of vectors, in an order that depends on their length alone.

use super::simd::{Isa, Kernel, Simd};

/// Σ f(x).
#[inline(always)]
pub(super) fn sum_of<S: Simd>(s: S, x: &[f32], f: impl Fn(S::F) -> S::F) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let mut blocks = x.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        for (sum, x) in sums.iter_mut().zip(block.chunks_exact(S::LANES)) {
            *sum = s.add(*sum, f(s.load(x)));
        }
    }
    for (sum, x) in sums.iter_mut().zip(blocks.remainder().chunks(S::LANES)) {
        // The lanes beyond the end must add nothing, whatever f makes of 0.
        let mut tail = [0.0; 16];
        s.store(f(s.load_partial(x)), &mut tail);
        *sum = s.add(*sum, s.load_partial(&tail[..x.len()]));
    }
    let [a, b, c, d] = sums;
    s.sum(s.add(s.add(a, b), s.add(c, d)))
}

/// Σ x.
pub fn sum(isa: Isa, x: &[f32]) -> f32 {
    isa.run(Sum(x))
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        sum_of(s, self.0, |x| x)
    }
}
