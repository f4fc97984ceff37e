//! Element types.

use std::fmt;

/// The element type of a value. It is data, not a type parameter: a kernel matches on it once, at
/// entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of an `F32`.
    BF16,
    /// Signed 32-bit integers: token ids, offsets, row ids.
    I32,
}

impl DType {
    /// Every element type.
    pub const ALL: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I32];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        self != DType::I32
    }

    /// The lowest finite number of a float type.
    pub fn lowest(self) -> f64 {
        match self {
            DType::F32 => f64::from(f32::MIN),
            DType::F16 => half::f16::MIN.to_f64(),
            DType::BF16 => half::bf16::MIN.to_f64(),
            DType::I32 => f64::from(i32::MIN),
        }
    }

    /// The unit roundoff u: rounding a real number to this type errs by at most u relatively.
    /// Zero for integers.
    pub fn unit_roundoff(self) -> f64 {
        match self {
            DType::F32 => 2f64.powi(-24),
            DType::F16 => 2f64.powi(-11),
            DType::BF16 => 2f64.powi(-8),
            DType::I32 => 0.0,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
        })
    }
}

/// The nearest f16; of two equally near, the even one. (`half::f16::from_f64` ignores the lower 32
/// bits, and so takes a number just above the middle of two for the middle.)
pub fn f16_from_f64(x: f64) -> half::f16 {
    half::f16::from_f32(to_odd(x))
}

/// The nearest bf16; of two equally near, the even one.
pub fn bf16_from_f64(x: f64) -> half::bf16 {
    half::bf16::from_f32(to_odd(x))
}

/// `x` in f32, or if it has no such place the one of its two neighbours whose last bit is 1:
/// rounding that to a shorter type is rounding x (Boldo and Melquiond 2008, "Emulation of a FMA and
/// correctly rounded sums").
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || !x.is_finite() || near.to_bits() & 1 == 1 {
        return near;
    }
    if near.is_infinite() {
        return f32::MAX.copysign(near); // its last bit is 1
    }
    let away = if (f64::from(near) < x) == (x > 0.0) { 1 } else { -1 };
    // From 0 the neighbour is the smallest number of x's sign.
    let bits = near.to_bits() | (x.is_sign_negative() as u32) << 31;
    f32::from_bits(bits.wrapping_add_signed(away))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beside_the_middle_are_rounded_to_their_own_side() {
        let just = 2f64.powi(-45);
        for (middle, below, above) in [
            (1.0 + 2f64.powi(-11), 1.0, 1.0 + 2f64.powi(-10)),
            (1.0 + 3.0 * 2f64.powi(-11), 1.0 + 2f64.powi(-10), 1.0 + 2f64.powi(-9)),
            (2f64.powi(-25), 0.0, 2f64.powi(-24)), // half of the smallest
        ] {
            for sign in [1.0, -1.0] {
                let round = |x: f64| f16_from_f64(sign * x).to_f64() * sign;
                assert_eq!(round(middle * (1.0 + just)), above, "{middle}");
                assert_eq!(round(middle * (1.0 - just)), below, "{middle}");
            }
        }
        assert_eq!(f16_from_f64(1.0 + 2f64.powi(-11)).to_f64(), 1.0);
        assert_eq!(bf16_from_f64(1.0 + 2f64.powi(-8) + just).to_f64(), 1.0 + 2f64.powi(-7));
        assert_eq!(
            bf16_from_f64(f64::from((1 << 30) + (1 << 22) + 1)).to_f64(),
            1.0 * 2f64.powi(30) + 2f64.powi(23)
        );
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(f16_from_f64(65_519.999).to_f64(), 65_504.0);
        assert_eq!(f16_from_f64(65_520.0), half::f16::INFINITY);
        assert_eq!(f16_from_f64(1e300), half::f16::INFINITY);
        assert_eq!(bf16_from_f64(-1e300), half::bf16::NEG_INFINITY);
        assert_eq!(f16_from_f64(-1e-300).to_bits(), 0x8000);
        assert!(bf16_from_f64(f64::NAN).is_nan());
        assert_eq!(f16_from_f64(f64::NEG_INFINITY), half::f16::NEG_INFINITY);
    }
}
