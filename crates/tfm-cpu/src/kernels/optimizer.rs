//! The parts of an optimiser's step: the squared norm of a gradient, and Adam.

use super::reduce::sum_of;
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads};

/// Elements of one partial sum.
const BLOCK: usize = 1 << 16;
/// Elements that one f32 sum takes.
const SHORT: usize = 1 << 10;

/// Σ x², in f64 over blocks of fixed lengths.
pub fn sum_of_squares(isa: Isa, threads: &Threads, x: &[f32]) -> f32 {
    let mut sums = vec![0.0f64; x.len().div_ceil(BLOCK)];
    threads.rows(&mut sums, 1, 4 * BLOCK, |range, sums| {
        for (i, sum) in range.zip(sums) {
            *sum = isa.run(Squares(&x[i * BLOCK..x.len().min((i + 1) * BLOCK)]));
        }
    });
    sums.iter().sum::<f64>() as f32
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut sum = 0.0;
        for x in self.0.chunks(SHORT) {
            sum += f64::from(sum_of(s, x, |x| s.mul(x, x)));
        }
        sum
    }
}

/// The scalars of one step of Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and
/// Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate of this step.
    pub rate: f32,
    /// `1/(1 − β₁ᵗ)` for step t = 1, 2, …
    pub correction_1: f32,
    /// `1/(1 − β₂ᵗ)`.
    pub correction_2: f32,
    /// β₁ and 1 − β₁. The latter would have few correct digits if it were computed from a β₁ in
    /// f32.
    pub beta_1: [f32; 2],
    /// β₂ and 1 − β₂.
    pub beta_2: [f32; 2],
    /// ε, which is added to the root.
    pub epsilon: f32,
    /// The share of the parameter that decays, to be multiplied by the rate.
    pub weight_decay: f32,
    /// The factor of the gradient.
    pub scale: f32,
}

/// One step, in place: with `g = scale·gradient`, `m = β₁·m + (1 − β₁)·g`, `v = β₂·v + (1 − β₂)·g²`
/// and `p −= rate·(m·c₁/(√(v·c₂) + ε) + decay·p)`.
pub fn adam(
    isa: Isa,
    threads: &Threads,
    step: Adam,
    gradient: &[f32],
    parameter: &mut [f32],
    [m, v]: [&mut [f32]; 2],
) {
    let n = gradient.len();
    assert!([parameter.len(), m.len(), v.len()] == [n; 3], "one of each for every parameter");
    let (m, v) = (SharedMut::new(m), SharedMut::new(v));
    threads.rows(parameter, 1, 40, |range, parameter| {
        // SAFETY: ranges of different tasks do not overlap, and each task runs once.
        let (m, v) = unsafe { (m.slice(range.clone()), v.slice(range.clone())) };
        isa.run(Step { step, gradient: &gradient[range], parameter, m, v });
    });
}

struct Step<'a> {
    step: Adam,
    gradient: &'a [f32],
    parameter: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Adam { rate, correction_1, correction_2, beta_1, beta_2, .. } = self.step;
        let Adam { epsilon, weight_decay, scale, .. } = self.step;
        let moments = self.m.chunks_mut(S::LANES).zip(self.v.chunks_mut(S::LANES));
        let operands = self.gradient.chunks(S::LANES).zip(self.parameter.chunks_mut(S::LANES));
        for ((gradient, parameter), (m, v)) in operands.zip(moments) {
            let g = s.mul(s.load_partial(gradient), s.splat(scale));
            let first = s.mul(s.load_partial(m), s.splat(beta_1[0]));
            let first = s.fma(g, s.splat(beta_1[1]), first);
            let second = s.mul(s.load_partial(v), s.splat(beta_2[0]));
            let second = s.fma(s.mul(g, g), s.splat(beta_2[1]), second);
            s.store_partial(first, m);
            s.store_partial(second, v);
            let root = s.sqrt(s.mul(second, s.splat(correction_2)));
            let change = s.div(s.mul(first, s.splat(correction_1)), s.add(root, s.splat(epsilon)));
            let p = s.load_partial(parameter);
            let change = s.fma(p, s.splat(weight_decay), change);
            s.store_partial(s.sub(p, s.mul(change, s.splat(rate))), parameter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    #[test]
    fn squares_are_summed_to_the_last_place_with_any_threads() {
        for n in [0, 1, 100, 70_000, 3_000_000] {
            let x = noise(1, n);
            let want: f64 = x.iter().map(|&x| x as f64 * x as f64).sum();
            everywhere(|isa, threads| {
                let got = sum_of_squares(isa, threads, &x);
                assert!((got as f64 - want).abs() <= 1e-6 * want, "{got}, not {want}");
                assert_eq!(got, sum_of_squares(isa, &Threads::new(1).unwrap(), &x));
            });
        }
    }

    #[test]
    fn three_steps_equal_f64_and_any_threads_give_the_same_bits() {
        for n in [0, 1, 33, 120_001] {
            let (start, gradients) = (noise(1, n), [2, 3, 4].map(|seed| noise(seed, n)));
            let step = |t: i32| Adam {
                rate: 0.01,
                correction_1: (1.0 / (1.0 - 0.9f64.powi(t))) as f32,
                correction_2: (1.0 / (1.0 - 0.98f64.powi(t))) as f32,
                beta_1: [0.9, 0.1],
                beta_2: [0.98, 0.02],
                epsilon: 1e-3,
                weight_decay: 0.1,
                scale: 0.5,
            };
            let mut want: Vec<f64> = start.iter().map(|&x| x.into()).collect();
            for (i, p) in want.iter_mut().enumerate() {
                let (mut m, mut v) = (0.0, 0.0);
                for (t, gradient) in (1..).zip(&gradients) {
                    let g = 0.5 * gradient[i] as f64;
                    m = 0.9 * m + 0.1 * g;
                    v = 0.98 * v + 0.02 * g * g;
                    let (c1, c2) = (1.0 - 0.9f64.powi(t), 1.0 - 0.98f64.powi(t));
                    *p -= 0.01 * (m / c1 / ((v / c2).sqrt() + 1e-3) + 0.1 * *p);
                }
            }
            let mut first: Option<(Isa, Vec<f32>)> = None;
            everywhere(|isa, threads| {
                let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
                for (t, gradient) in (1..).zip(&gradients) {
                    adam(isa, threads, step(t), gradient, &mut p, [&mut m, &mut v]);
                }
                assert_near(&p, &want, 1e-6);
                match &first {
                    Some((set, bits)) if *set == isa => assert_same_bits(&p, bits),
                    _ => first = Some((isa, p)),
                }
            });
        }
    }
}
