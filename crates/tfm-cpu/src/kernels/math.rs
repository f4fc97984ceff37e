//! Elementary functions on vectors, within 3 units in the last place (`exp`: 2).
//!
//! The polynomials are minimax fits that were made for these intervals (Lawson's iteration on
//! Chebyshev points). The range reductions are the classical ones (Cody and Waite).

use super::simd::Simd;

/// Σ cᵢ·xⁱ by Horner's rule, the highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, coefficients: [f32; N]) -> S::F {
    let mut sum = s.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = s.fma(sum, x, s.splat(c));
    }
    sum
}

/// eˣ: exactly 0 at −∞, 1 at 0, and ∞ beyond the range. Subnormal results are right, and NaN stays
/// NaN.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2. The limits are the first operands, so that NaN stays NaN.
    let (e, n) = exp_parts(s, s.min(s.splat(89.0), s.max(s.splat(-104.0), x)));
    s.scale2(e, n)
}

/// eˣ for x ≤ 0, in fewer steps than [`exp`]. It gives the same where the result is a normal
/// number. Smaller results may be 0, and the result at −∞ is. NaN stays NaN.
#[inline(always)]
pub fn exp_of_negative<S: Simd>(s: S, x: S::F) -> S::F {
    let (e, n) = exp_parts(s, s.max(s.splat(-104.0), x));
    s.scale2_down(e, n)
}

/// eˣ as `e · 2ⁿ` with e near 1.
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // eʳ = 1 + (r + r²·P(r)).
    let p = polynomial(s, r, [1.395_072_6e-3, 8.369_025e-3, 4.166_620_2e-2, 1.666_651_8e-1, 0.5]);
    (s.add(s.fma(s.mul(r, r), p, r), s.splat(1.0)), n)
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let a = s.abs(x);
    // For small x: x + x³·P(x²), which keeps the relative accuracy that 1 − 2/(e²ˣ + 1) would lose.
    let square = s.mul(x, x);
    let p = polynomial(
        s,
        square,
        [-5.717_042_4e-3, 2.065_058_4e-2, -5.374_349_7e-2, 1.333_149_1e-1, -3.333_328_3e-1],
    );
    let small = s.fma(s.mul(x, square), p, x);
    let one = s.splat(1.0);
    let large = s.sub(one, s.div(s.splat(2.0), s.add(exp(s, s.add(a, a)), one)));
    s.select_lt(a, s.splat(0.625), small, s.copysign(large, x))
}

/// The error function.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let a = s.abs(x);
    // For |x| < 1: x·P(x²).
    let p = polynomial(
        s,
        s.mul(x, x),
        [
            7.853_86e-5,
            -8.010_193e-4,
            5.188_327_6e-3,
            -2.685_381_2e-2,
            1.128_358_5e-1,
            -3.761_262_6e-1,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let small = s.mul(x, p);
    // Otherwise 1 − e^(−|x|·Q(|x|)), which is 1 from 4 on. The limit is the first operand, so that
    // NaN stays NaN.
    let t = s.min(s.splat(4.0), a);
    let q = polynomial(
        s,
        t,
        [
            5.297_071_3e-6,
            -4.994_130_4e-5,
            -2.743_106_2e-5,
            2.869_11e-3,
            -2.257_559_8e-2,
            1.051_694_8e-1,
            6.356_731_7e-1,
            1.128_541_5,
        ],
    );
    let tail = exp(s, s.sub(s.splat(0.0), s.mul(t, q)));
    let large = s.copysign(s.sub(s.splat(1.0), tail), x);
    s.select_lt(a, s.splat(1.0), small, large)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Isa, Kernel, Simd};

    struct Apply<'a>(&'a str, &'a [f32]);
    impl Kernel for Apply<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<f32> {
            let mut out = vec![0.0; self.1.len()];
            for (x, y) in self.1.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
                let v = s.load_partial(x);
                let v = match self.0 {
                    "exp" => super::exp(s, v),
                    "exp of negative" => super::exp_of_negative(s, v),
                    "tanh" => super::tanh(s, v),
                    "erf" => super::erf(s, v),
                    _ => super::sigmoid(s, v),
                };
                s.store_partial(v, y);
            }
            out
        }
    }

    /// erf by its Taylor series or, where the series cancels, by the continued fraction of erfc.
    fn erf64(x: f64) -> f64 {
        let a = x.abs();
        if a < 3.0 {
            let (mut term, mut sum, mut n) = (a, a, 0.0);
            while f64::abs(term) > 1e-18 * sum {
                n += 1.0;
                term *= -a * a / n;
                sum += term / (2.0 * n + 1.0);
            }
            return (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
        }
        let fraction = (1..60).rev().fold(0.0, |f, n| n as f64 / 2.0 / (a + f));
        (1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())).copysign(x)
    }

    fn worst_ulps(name: &str, f: impl Fn(f64) -> f64, from: f32, to: f32) {
        let n = 200_000;
        let xs: Vec<f32> = (0..=n).map(|i| from + (to - from) * i as f32 / n as f32).collect();
        for isa in Isa::available() {
            let mut worst = (0.0, 0.0);
            for (&x, &y) in xs.iter().zip(&isa.run(Apply(name, &xs))) {
                let want = f(x as f64);
                let magnitude = (want.abs() as f32).max(f32::MIN_POSITIVE);
                let ulp = f32::from_bits(magnitude.to_bits() + 1) - magnitude;
                let ulps = (y as f64 - want).abs() / ulp as f64;
                if ulps > worst.0 {
                    worst = (ulps, x);
                }
            }
            let limit = if name.starts_with("exp") { 2.0 } else { 3.0 };
            assert!(worst.0 <= limit, "{name} {}: {} ulp at {}", isa.name(), worst.0, worst.1);
        }
    }

    #[test]
    fn functions_are_right_to_the_last_places() {
        worst_ulps("exp", f64::exp, -103.0, 88.7);
        worst_ulps("exp", f64::exp, -1.0, 1.0);
        worst_ulps("exp of negative", f64::exp, -87.3, 0.0);
        worst_ulps("tanh", f64::tanh, -10.0, 10.0);
        worst_ulps("tanh", f64::tanh, -0.01, 0.01);
        worst_ulps("erf", erf64, -5.0, 5.0);
        worst_ulps("erf", erf64, -0.01, 0.01);
        worst_ulps("sigmoid", |x| 1.0 / (1.0 + (-x).exp()), -80.0, 20.0);
    }

    #[test]
    fn special_values() {
        let inf = f32::INFINITY;
        for isa in Isa::available() {
            let exp = isa.run(Apply("exp", &[-inf, inf, 0.0, -0.0, f32::NAN, 1000.0, -1000.0]));
            assert_eq!(exp[..4], [0.0, inf, 1.0, 1.0]);
            assert!(exp[4].is_nan());
            assert_eq!(exp[5..], [inf, 0.0]);
            let exp = isa.run(Apply("exp of negative", &[-inf, 0.0, -0.0, f32::NAN, -1000.0]));
            assert_eq!(exp[..3], [0.0, 1.0, 1.0]);
            assert!(exp[3].is_nan() && exp[4] == 0.0);
            for name in ["tanh", "erf"] {
                let y = isa.run(Apply(name, &[-inf, inf, 0.0, f32::NAN, 1e30, -1e30]));
                assert_eq!(y[..3], [-1.0, 1.0, 0.0]);
                assert!(y[3].is_nan());
                assert_eq!(y[4..], [1.0, -1.0]);
            }
            let y = isa.run(Apply("sigmoid", &[-inf, inf, 0.0, f32::NAN]));
            assert_eq!(y[..3], [0.0, 1.0, 0.5]);
            assert!(y[3].is_nan());
        }
    }
}
