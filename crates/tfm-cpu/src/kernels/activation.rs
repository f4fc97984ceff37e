//! The activation functions of feed-forward layers, on vectors.

use tfm_core::fused::Activation;

use super::math;
use super::simd::Simd;

/// The activation function of each lane.
#[inline(always)]
pub fn activate<S: Simd>(s: S, activation: Activation, x: S::F) -> S::F {
    let half = |x: S::F| s.mul(x, s.splat(0.5));
    match activation {
        Activation::Relu => s.max(s.splat(0.0), x),
        Activation::Gelu => {
            let phi = math::erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
            s.fma(half(x), phi, half(x))
        }
        Activation::GeluTanh => {
            let cube = s.mul(s.mul(x, x), x);
            let inner = s.fma(cube, s.splat(0.044_715), x);
            let phi = math::tanh(s, s.mul(inner, s.splat(0.797_884_6)));
            s.fma(half(x), phi, half(x))
        }
        Activation::Swish => s.mul(x, math::sigmoid(s, x)),
        Activation::Tanh => math::tanh(s, x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::{Isa, Kernel};

    struct Apply(Activation, Vec<f32>);
    impl Kernel for Apply {
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

    /// Values of the definitions that were computed with 30 digits.
    #[test]
    fn known_values() {
        let x = vec![-3.0, -0.5, 0.0, 0.25, 2.0];
        let known = [
            (Activation::Relu, [0.0, 0.0, 0.0, 0.25, 2.0]),
            (Activation::Gelu, [-0.004049694095, -0.1542687694, 0.0, 0.1496765814, 1.954499736]),
            (
                Activation::GeluTanh,
                [-0.003637392082, -0.1542859902, 0.0, 0.1496753507, 1.954597694],
            ),
            (Activation::Swish, [-0.1422776195, -0.1887703344, 0.0, 0.1405441252, 1.761594156]),
            (Activation::Tanh, [-0.9950547537, -0.4621171573, 0.0, 0.2449186624, 0.9640275801]),
        ];
        for (activation, want) in known {
            for isa in Isa::available() {
                for (y, want) in isa.run(Apply(activation, x.clone())).into_iter().zip(want) {
                    assert!((y as f64 - want).abs() < 4e-7, "{activation:?}: {y}, not {want}");
                }
            }
        }
    }
}
