//! The gradients of the activation functions.

use tfm_core::fused::Activation;

use super::math;
use super::simd::{Isa, Kernel, Simd};
use super::threads::Threads;

/// `dx = dy·f′(x)` for each element; the derivative of the rectifier at 0 is 0.
pub fn activation_gradient(
    isa: Isa,
    threads: &Threads,
    activation: Activation,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    assert!(x.len() == dx.len() && dy.len() == dx.len());
    let work = if activation == Activation::Relu { 4 } else { 40 };
    threads.rows(dx, 1, work, |range, dx| {
        isa.run(Gradient { activation, x: &x[range.clone()], dy: &dy[range], dx });
    });
}

struct Gradient<'a> {
    activation: Activation,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Choose the function once, not for every vector.
        match self.activation {
            Activation::Relu => {
                self.each(s, |x| s.select_lt(s.splat(0.0), x, s.splat(1.0), s.splat(0.0)))
            }
            Activation::Gelu => self.each(s, |x| gelu(s, x)),
            Activation::GeluTanh => self.each(s, |x| gelu_tanh(s, x)),
            Activation::Swish => self.each(s, |x| {
                // σ·(1 + x·(1 − σ))
                let sigmoid = math::sigmoid(s, x);
                let rest = s.sub(s.splat(1.0), sigmoid);
                s.mul(sigmoid, s.fma(x, rest, s.splat(1.0)))
            }),
            Activation::Tanh => self.each(s, |x| {
                let tanh = math::tanh(s, x);
                s.fma(s.sub(s.splat(0.0), tanh), tanh, s.splat(1.0))
            }),
        }
    }
}

impl Gradient<'_> {
    #[inline(always)]
    fn each<S: Simd>(self, s: S, derivative: impl Fn(S::F) -> S::F) {
        let operands = self.x.chunks(S::LANES).zip(self.dy.chunks(S::LANES));
        for ((x, dy), dx) in operands.zip(self.dx.chunks_mut(S::LANES)) {
            s.store_partial(s.mul(s.load_partial(dy), derivative(s.load_partial(x))), dx);
        }
    }
}

/// `Φ(x) + x·φ(x)`.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let half = s.splat(0.5);
    let erf = math::erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
    let below = s.fma(half, erf, half);
    let density = math::exp(s, s.mul(s.mul(x, x), s.splat(-0.5)));
    // 1/√(2π)
    s.fma(s.mul(x, s.splat(0.398_942_3)), density, below)
}

/// The derivative of `x/2·(1 + tanh u)` with `u = c·(x + a·x³)`:
/// `(1 + tanh u)/2 + x/2·(1 − tanh² u)·c·(1 + 3a·x²)`.
#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let [half, one, c] = [s.splat(0.5), s.splat(1.0), s.splat(0.797_884_6)];
    let square = s.mul(x, x);
    let inner = s.fma(s.mul(square, x), s.splat(0.044_715), x);
    let tanh = math::tanh(s, s.mul(inner, c));
    let slope = s.mul(c, s.fma(square, s.splat(3.0 * 0.044_715), one));
    let steep = s.fma(s.sub(s.splat(0.0), tanh), tanh, one);
    // Far from 0 the slope of the tangent is 0, while that of u may be ∞.
    let curve = s.select_lt(s.splat(0.0), steep, s.mul(steep, slope), s.splat(0.0));
    s.fma(s.mul(x, half), curve, s.fma(half, tanh, half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::activation::activate;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    struct Apply<'a>(Activation, &'a [f32]);
    impl Kernel for Apply<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<f32> {
            let mut out = vec![0.0; self.1.len()];
            for (x, y) in self.1.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
                s.store_partial(activate(s, self.0, s.load_partial(x)), y);
            }
            out
        }
    }

    /// The derivatives by their formulas in f64, with erf by its series.
    fn derivative(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Relu => f64::from(u8::from(x > 0.0)),
            Activation::Gelu => {
                let a = x / 2f64.sqrt();
                let (mut term, mut erf) = (a, a);
                for n in 1..120 {
                    term *= -a * a / n as f64;
                    erf += term / (2 * n + 1) as f64;
                }
                let erf = erf * std::f64::consts::FRAC_2_SQRT_PI;
                let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                0.5 * (1.0 + erf) + x * density
            }
            Activation::GeluTanh => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                let tanh = (c * (x + 0.044715 * x.powi(3))).tanh();
                let slope = c * (1.0 + 3.0 * 0.044715 * x * x);
                0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope
            }
            Activation::Swish => {
                let sigmoid = 1.0 / (1.0 + (-x).exp());
                sigmoid * (1.0 + x * (1.0 - sigmoid))
            }
            Activation::Tanh => 1.0 - x.tanh().powi(2),
        }
    }

    #[test]
    fn equals_f64_and_any_threads_give_the_same_bits() {
        for n in [0, 1, 19, 150_003] {
            let x: Vec<f32> = noise(1, n).iter().map(|x| x * 4.0).collect();
            let dy = noise(2, n);
            for activation in Activation::ALL {
                let mut first: Option<(Isa, Vec<f32>)> = None;
                everywhere(|isa, threads| {
                    let mut dx = vec![9.0; n];
                    activation_gradient(isa, threads, activation, &x, &dy, &mut dx);
                    for i in 0..n.min(3000) {
                        let want = dy[i] as f64 * derivative(activation, x[i] as f64);
                        let error = (dx[i] as f64 - want).abs();
                        assert!(error < 2e-6, "{activation:?} at {}: {error}", x[i]);
                    }
                    match &first {
                        Some((set, bits)) if *set == isa => assert_same_bits(&dx, bits),
                        _ => first = Some((isa, dx)),
                    }
                });
            }
        }
    }

    #[test]
    fn is_the_slope_of_the_function_also_far_out() {
        for activation in Activation::ALL {
            everywhere(|isa, threads| {
                let x = [-1e30, -50.0, -2.0, -0.7, 0.0, 0.3, 1.9, 50.0, 1e30];
                let mut dx = [0.0; 9];
                activation_gradient(isa, threads, activation, &x, &[1.0; 9], &mut dx);
                let side = |h: f32| isa.run(Apply(activation, &x.map(|x| x + h)));
                let (above, below) = (side(1.0 / 64.0), side(-1.0 / 64.0));
                assert!(dx.iter().all(|dx| dx.is_finite()), "{activation:?}: {dx:?}");
                for i in (1..8).filter(|&i| x[i] != 0.0) {
                    let slope = (above[i] - below[i]) * 32.0;
                    assert!((dx[i] - slope).abs() < 1e-3, "{activation:?} at {}", x[i]);
                }
                assert!(activation != Activation::Relu || dx[4] == 0.0);
            });
        }
    }
}
