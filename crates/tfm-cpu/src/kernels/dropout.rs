//! Dropout. It makes its random numbers on the way.

use super::philox::{BATCH, uniform};
use super::simd::{Isa, Kernel, Simd};
use super::threads::Threads;

/// Says which elements are dropped: those whose number [`tfm_core::philox::uniform`] is below the
/// rate. The others are divided by `1 − rate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share that is dropped, in [0, 1).
    pub rate: f32,
    /// The seed, low and high half, and the step.
    pub key: [i32; 3],
    /// The random stream of this dropout.
    pub stream: u32,
}

impl Dropout {
    /// Multiplies each element by 0 or 1/(1 − rate). The first element has position `position`.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, s: S, position: u64, x: &mut [f32]) {
        let mut numbers = [0.0; 4 * BATCH];
        for (i, x) in x.chunks_mut(numbers.len()).enumerate() {
            let numbers = &mut numbers[..x.len()];
            uniform(s, self.key, self.stream, position + (4 * BATCH * i) as u64, numbers);
            for (x, number) in x.chunks_mut(S::LANES).zip(numbers.chunks(S::LANES)) {
                let y = self.factor(s, s.load_partial(number), s.load_partial(x));
                s.store_partial(y, x);
            }
        }
    }

    #[inline(always)]
    fn factor<S: Simd>(&self, s: S, number: S::F, x: S::F) -> S::F {
        let kept = s.mul(x, s.splat(1.0 / (1.0 - self.rate)));
        s.select_lt(number, s.splat(self.rate), s.splat(0.0), kept)
    }
}

/// `out = residual + x·kept/(1 − rate)`. Element i is kept if its random number, at position i, is
/// not below the rate.
pub fn dropout(
    isa: Isa,
    threads: &Threads,
    dropout: Dropout,
    x: &[f32],
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len());
    assert!(residual.is_none_or(|residual| residual.len() == out.len()));
    threads.rows(out, 1, 60, |range, out| {
        let residual = residual.map(|residual| &residual[range.clone()]);
        let first = range.start as u64;
        isa.run(Drop { dropout, x: &x[range], residual, first, out });
    });
}

struct Drop<'a> {
    dropout: Dropout,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    first: u64,
    out: &'a mut [f32],
}

impl Kernel for Drop<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Drop { dropout, x, residual, first, out } = self;
        let mut numbers = [0.0; 4 * BATCH];
        for (at, out) in (0..).step_by(numbers.len()).zip(out.chunks_mut(4 * BATCH)) {
            let numbers = &mut numbers[..out.len()];
            uniform(s, dropout.key, dropout.stream, first + at as u64, numbers);
            let x = &x[at..at + out.len()];
            let operands = x.chunks(S::LANES).zip(numbers.chunks(S::LANES));
            for (i, ((x, numbers), out)) in operands.zip(out.chunks_mut(S::LANES)).enumerate() {
                let mut y = dropout.factor(s, s.load_partial(numbers), s.load_partial(x));
                if let Some(residual) = residual {
                    let residual = &residual[at + i * S::LANES..][..out.len()];
                    y = s.add(s.load_partial(residual), y);
                }
                s.store_partial(y, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    #[test]
    fn drops_what_the_numbers_say_and_keeps_the_mean() {
        for n in [0, 1, 70, 300, 100_001] {
            let (x, residual) = (noise(1, n), noise(2, n));
            let setting = Dropout { rate: 0.3, key: [5, 6, 7], stream: 8 };
            let factor = 1.0f32 / (1.0 - 0.3);
            let dropped = |i: usize| {
                let kept = tfm_core::philox::uniform(setting.key, setting.stream, i) >= 0.3;
                if kept { x[i] * factor } else { 0.0 }
            };
            let want: Vec<f32> = (0..n).map(dropped).collect();
            let sums: Vec<f32> = want.iter().zip(&residual).map(|(x, r)| r + x).collect();
            everywhere(|isa, threads| {
                let mut out = vec![9.0; n];
                dropout(isa, threads, setting, &x, None, &mut out);
                assert_same_bits(&out, &want);
                dropout(isa, threads, setting, &x, Some(&residual), &mut out);
                assert_same_bits(&out, &sums);
            });
            let share = want.iter().filter(|x| **x == 0.0).count() as f64 / n as f64;
            assert!(n < 1000 || (share - 0.3).abs() < 0.01, "{share} dropped");
        }
    }
}
