//! Arithmetic on integers and bits, and conversions.

use crate::float;
use crate::instruction::{Binary, Comparison, Mode, Rounding, Ternary, Type, Unary};

/// The lowest `bits` bits.
pub(crate) fn low(bits: u32, x: u64) -> u64 {
    if bits >= 64 { x } else { x & ((1 << bits) - 1) }
}

/// The lowest `bits` bits, sign-extended.
fn signed(bits: u32, x: u64) -> i64 {
    let unused = 64 - bits;
    ((x << unused) as i64) >> unused
}

/// The value that an integer type's bits stand for.
pub(crate) fn value(ty: Type, x: u64) -> i128 {
    match ty {
        Type::S(_) => signed(ty.bits(), x).into(),
        _ => low(ty.bits(), x).into(),
    }
}

pub(crate) fn unary(op: Unary, ty: Type, a: u64) -> Option<u64> {
    let bits = ty.bits();
    let a = low(bits, a);
    Some(match op {
        Unary::Not if ty == Type::Pred => a ^ 1,
        Unary::Not => low(bits, !a),
        Unary::Neg => low(bits, a.wrapping_neg()),
        Unary::Abs => low(bits, signed(bits, a).unsigned_abs()),
        Unary::Popc => a.count_ones().into(),
        Unary::Clz => (a.leading_zeros() - (64 - bits)).into(),
        Unary::Brev => a.reverse_bits() >> (64 - bits),
        Unary::Cnot => u64::from(a == 0),
        Unary::Bfind { shift } => {
            // In a negative number, search for the first bit that differs from the sign.
            let x = if matches!(ty, Type::S(_)) && signed(bits, a) < 0 { low(bits, !a) } else { a };
            if x == 0 {
                return Some(0xFFFF_FFFF);
            }
            let position = 63 - x.leading_zeros();
            (if shift { bits - 1 - position } else { position }).into()
        }
        _ => return None,
    })
}

pub(crate) fn binary(op: Binary, ty: Type, mode: Mode, a: u64, b: u64) -> Option<u64> {
    let bits = ty.bits();
    let (x, y) = (value(ty, a), value(ty, b));
    let amount = low(32, b);
    Some(match op {
        Binary::Add | Binary::Sub if mode.saturate => {
            let exact = if op == Binary::Add { x + y } else { x - y };
            low(bits, exact.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1) as u64)
        }
        Binary::Add => low(bits, a.wrapping_add(b)),
        Binary::Sub => low(bits, a.wrapping_sub(b)),
        Binary::MulLow => low(bits, a.wrapping_mul(b)),
        Binary::MulHigh => low(bits, (x.wrapping_mul(y) >> bits) as u64),
        Binary::MulWide => low(2 * bits, (x * y) as u64),
        // The result of a division by zero is undefined; the hardware returns all ones.
        Binary::Div => low(bits, if y == 0 { u64::MAX } else { (x / y) as u64 }),
        Binary::Rem => low(bits, if y == 0 { a } else { (x % y) as u64 }),
        Binary::Min => low(bits, x.min(y) as u64),
        Binary::Max => low(bits, x.max(y) as u64),
        Binary::And => low(bits, a & b),
        Binary::Or => low(bits, a | b),
        Binary::Xor => low(bits, a ^ b),
        Binary::Shl => {
            if amount >= bits.into() {
                0
            } else {
                low(bits, a << amount)
            }
        }
        Binary::Shr => {
            let amount = amount.min(if matches!(ty, Type::S(_)) { bits - 1 } else { bits }.into());
            low(bits, (x >> amount) as u64)
        }
        _ => return None,
    })
}

pub(crate) fn ternary(op: Ternary, ty: Type, mode: Mode, a: u64, b: u64, c: u64) -> Option<u64> {
    let bits = ty.bits();
    Some(match op {
        Ternary::MadLow => low(bits, binary(Binary::MulLow, ty, mode, a, b)?.wrapping_add(c)),
        Ternary::MadHigh => low(bits, binary(Binary::MulHigh, ty, mode, a, b)?.wrapping_add(c)),
        Ternary::MadWide => low(2 * bits, binary(Binary::MulWide, ty, mode, a, b)?.wrapping_add(c)),
        Ternary::Logic(table) => {
            let term = |i: u32| {
                let pick = |x: u64, bit: u32| if i & bit != 0 { x } else { !x };
                if table >> i & 1 != 0 { pick(a, 4) & pick(b, 2) & pick(c, 1) } else { 0 }
            };
            low(bits, (0..8).map(term).fold(0, |sum, x| sum | x))
        }
        Ternary::Permute => {
            let bytes = low(32, a) | low(32, b) << 32;
            let pick = |i: u32| {
                let selector = c >> (4 * i) & 0xF;
                let byte = bytes >> (8 * (selector & 7)) & 0xFF;
                // The high bit of the selector asks for the byte's sign instead.
                if selector & 8 == 0 {
                    byte
                } else if byte & 0x80 != 0 {
                    0xFF
                } else {
                    0
                }
            };
            (0..4).map(|i| pick(i) << (8 * i)).fold(0, |sum, x| sum | x)
        }
        Ternary::FunnelLeft { clamp } | Ternary::FunnelRight { clamp } => {
            let both = low(32, b) << 32 | low(32, a);
            let amount = low(32, c);
            let amount = if clamp { amount.min(32) } else { amount & 31 };
            let left = matches!(op, Ternary::FunnelLeft { .. });
            low(32, if left { (both << amount) >> 32 } else { both >> amount })
        }
        Ternary::ExtractBits => {
            let (start, len) = ((b & 0xFF) as u32, (c & 0xFF) as u32);
            let sign = match ty {
                Type::S(_) if len > 0 => low(bits, a) >> (start + len - 1).min(bits - 1) & 1,
                _ => 0,
            };
            let field = if start < bits { low(len.min(64), low(bits, a) >> start) } else { 0 };
            // Bits above the field or above the number are filled with the sign.
            let filled = len.min(bits.saturating_sub(start));
            low(bits, if sign == 1 { field | !low(filled, u64::MAX) } else { field })
        }
        Ternary::Dp4a { signed_a, signed_b } => {
            let byte = |x: u64, i: u32, is_signed: bool| {
                value(if is_signed { Type::S(8) } else { Type::U(8) }, x >> (8 * i)) as i64
            };
            let sum: i64 = (0..4).map(|i| byte(a, i, signed_a) * byte(b, i, signed_b)).sum();
            low(32, c.wrapping_add(sum as u64))
        }
        _ => return None,
    })
}

pub(crate) fn insert_bits(ty: Type, a: u64, b: u64, position: u64, length: u64) -> u64 {
    let bits = ty.bits();
    let (start, len) = ((position & 0xFF) as u32, (length & 0xFF) as u32);
    if start >= bits {
        return low(bits, b);
    }
    let mask = low(bits, low(len, u64::MAX) << start);
    low(bits, (b & !mask) | (a << start & mask))
}

/// Whether a comparison holds.
pub(crate) fn compare(comparison: Comparison, ty: Type, flush: bool, a: u64, b: u64) -> bool {
    use Comparison::*;
    if ty.is_float() {
        let x = float::decode(ty, float::flush(ty, a, flush));
        let y = float::decode(ty, float::flush(ty, b, flush));
        let unordered = x.is_nan() || y.is_nan();
        return match comparison {
            Eq => x == y,
            Ne => !unordered && x != y,
            Lt => x < y,
            Le => x <= y,
            Gt => x > y,
            Ge => x >= y,
            Equ => unordered || x == y,
            Neu => unordered || x != y,
            Ltu => unordered || x < y,
            Leu => unordered || x <= y,
            Gtu => unordered || x > y,
            Geu => unordered || x >= y,
            Num => !unordered,
            Nan => unordered,
        };
    }
    let (x, y) = (value(ty, a), value(ty, b));
    match comparison {
        Eq | Equ => x == y,
        Ne | Neu => x != y,
        Lt | Ltu => x < y,
        Le | Leu => x <= y,
        Gt | Gtu => x > y,
        Ge | Geu => x >= y,
        Num => true,
        Nan => false,
    }
}

/// `cvt`.
pub(crate) fn convert(to: Type, from: Type, mode: Mode, to_integer: bool, a: u64) -> u64 {
    let a = float::flush(from, a, mode.flush);
    match (from.is_float(), to.is_float()) {
        (false, false) => {
            let x = value(from, a);
            low(to.bits(), if mode.saturate { held(to, x) } else { x } as u64)
        }
        (false, true) => match from {
            // An f64 cannot hold all bits, so round once, by way of an exact pair.
            Type::S(64) | Type::U(64) | Type::B(64) => {
                let x = value(from, a);
                let high = x as f64;
                let tiny = (x - high as i128) as f64;
                float::encode(to, high, tiny, mode.rounding)
            }
            _ => float::encode(to, value(from, a) as f64, 0.0, mode.rounding),
        },
        (true, false) if to == Type::B(32) => {
            // tf32 has 10 bits of fraction, and ties go away from zero.
            let bits = a as u32;
            if f32::from_bits(bits).is_finite() {
                u64::from(bits.wrapping_add(0x1000) & !0x1FFF)
            } else {
                a
            }
        }
        (true, false) => {
            let x = float::decode(from, a);
            if x.is_nan() {
                return if to.bits() == 64 { 1 << 63 } else { 0 };
            }
            low(to.bits(), held(to, to_whole(x, mode.rounding)) as u64)
        }
        (true, true) => {
            let x = float::decode(from, a);
            if to_integer {
                let whole = whole(x, mode.rounding).copysign(x);
                return float::encode(to, whole, 0.0, Rounding::Nearest);
            }
            if x.is_nan() {
                return if mode.saturate {
                    0
                } else {
                    float::encode(to, f64::NAN, 0.0, Rounding::Nearest)
                };
            }
            let x = if mode.saturate { x.clamp(0.0, 1.0) } else { x };
            let x = if mode.relu { x.max(0.0) } else { x };
            float::flush(to, float::encode(to, x, 0.0, mode.rounding), mode.flush)
        }
    }
}

fn whole(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
        Rounding::Away => x.round(),
    }
}

fn to_whole(x: f64, rounding: Rounding) -> i128 {
    whole(x, rounding) as i128
}

/// Clamps a value to the range of the type.
fn held(ty: Type, x: i128) -> i128 {
    let bits = ty.bits();
    match ty {
        Type::S(_) => x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        _ => x.clamp(0, (1 << bits) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Mode = Mode {
        rounding: Rounding::Nearest,
        flush: false,
        saturate: false,
        nan: false,
        relu: false,
        flat: false,
    };

    #[test]
    fn bits() {
        let u32 = Type::U(32);
        let s32 = Type::S(32);
        assert_eq!(unary(Unary::Bfind { shift: false }, s32, 0xFFFF_FF00), Some(7));
        assert_eq!(unary(Unary::Clz, Type::B(32), 1), Some(31));
        assert_eq!(unary(Unary::Brev, Type::B(32), 1), Some(1 << 31));
        assert_eq!(
            ternary(Ternary::Permute, u32, PLAIN, 0x0403_0201, 0x0807_8605, 0xD140),
            Some(0xFF02_0501)
        );
        assert_eq!(ternary(Ternary::Logic(0xE8), u32, PLAIN, 0b1100, 0b1010, 0b0110), Some(0b1110));
        assert_eq!(
            ternary(Ternary::FunnelLeft { clamp: false }, u32, PLAIN, 0x8000_0000, 1, 1),
            Some(3)
        );
        assert_eq!(ternary(Ternary::ExtractBits, s32, PLAIN, 0xF0, 4, 4), Some(0xFFFF_FFFF));
        assert_eq!(ternary(Ternary::ExtractBits, u32, PLAIN, 0xF0, 4, 3), Some(7));
        assert_eq!(insert_bits(u32, 0b101, 0xFFFF_FFFF, 4, 3), 0xFFFF_FFDF);
        assert_eq!(binary(Binary::MulHigh, s32, PLAIN, 0xFFFF_FFFF, 2), Some(0xFFFF_FFFF));
        assert_eq!(binary(Binary::Shr, s32, PLAIN, 0x8000_0000, 40), Some(0xFFFF_FFFF));
        assert_eq!(binary(Binary::Shr, u32, PLAIN, 0x8000_0000, 40), Some(0));
        assert_eq!(
            binary(Binary::Div, s32, PLAIN, (-7i64) as u64, 2),
            Some(low(32, (-3i64) as u64))
        );
    }

    #[test]
    fn conversions() {
        let f = |x: f32| u64::from(x.to_bits());
        let mode = |rounding| Mode { rounding, ..PLAIN };
        let (f32, s32) = (Type::F32, Type::S(32));
        assert_eq!(convert(s32, f32, mode(Rounding::Zero), true, f(-2.9)), low(32, (-2i64) as u64));
        assert_eq!(convert(s32, f32, mode(Rounding::Nearest), true, f(2.5)), 2);
        assert_eq!(convert(Type::U(8), f32, mode(Rounding::Nearest), true, f(300.0)), 255);
        assert_eq!(convert(f32, f32, mode(Rounding::Down), true, f(-0.5)), f(-1.0));
        assert_eq!(
            convert(f32, Type::U(64), PLAIN, false, (1 << 40) + (1 << 16) + 1),
            f(1.0995117e12)
        );
        assert_eq!(convert(Type::S(64), s32, PLAIN, false, 0xFFFF_FFFF), u64::MAX);
        assert_eq!(convert(Type::U(64), Type::U(32), PLAIN, false, 0xFFFF_FFFF), 0xFFFF_FFFF);
        assert_eq!(convert(Type::F16, f32, PLAIN, false, f(1.0)), 0x3C00);
        assert_eq!(
            convert(Type::B(32), f32, PLAIN, false, f(1.0 + 2f32.powi(-11))),
            f(1.0 + 2f32.powi(-10))
        );
    }
}
