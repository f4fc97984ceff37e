//! Arithmetic on floats as PTX defines it, where Rust's differs.

use half::{bf16, f16};

use crate::instruction::{Binary, Mode, Rounding, Type, Unary};

/// The number that a float type's bits stand for.
pub(crate) fn decode(ty: Type, bits: u64) -> f64 {
    match ty {
        Type::F16 => f16::from_bits(bits as u16).to_f64(),
        Type::BF16 => bf16::from_bits(bits as u16).to_f64(),
        Type::F32 => f32::from_bits(bits as u32).into(),
        _ => f64::from_bits(bits),
    }
}

/// Rounds `exact + tiny` to a type and returns its bits. `tiny` is too small to show in `exact`,
/// but it breaks ties.
pub(crate) fn encode(ty: Type, exact: f64, tiny: f64, rounding: Rounding) -> u64 {
    match ty {
        Type::F64 => round(exact, tiny, rounding, |x| x, f64::next_up, f64::next_down).to_bits(),
        Type::F32 => {
            let up = |x: f64| f64::from((x as f32).next_up());
            let down = |x: f64| f64::from((x as f32).next_down());
            let found = round(exact, tiny, rounding, |x| f64::from(x as f32), up, down);
            (found as f32).to_bits().into()
        }
        Type::F16 => {
            // The neighbour of a number that the type has.
            let step = |x: f64, by: i32| {
                neighbour(f16::from_f64(x).to_bits(), by, |b| f16::from_bits(b).to_f64())
            };
            let nearest = |x: f64| nearest(x, 10, -14, f16::MAX.to_f64());
            let found = round(exact, tiny, rounding, nearest, |x| step(x, 1), |x| step(x, -1));
            f16::from_f64(found).to_bits().into()
        }
        _ => {
            let step = |x: f64, by: i32| {
                neighbour(bf16::from_f64(x).to_bits(), by, |b| bf16::from_bits(b).to_f64())
            };
            let nearest = |x: f64| nearest(x, 7, -126, bf16::MAX.to_f64());
            let found = round(exact, tiny, rounding, nearest, |x| step(x, 1), |x| step(x, -1));
            bf16::from_f64(found).to_bits().into()
        }
    }
}

/// The nearest number with `fraction` bits of fraction, ties to even. (`half` looks only at the
/// upper half of an f64, and so takes a number just above a tie for a tie.)
fn nearest(x: f64, fraction: i32, least_exponent: i32, largest: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = (x.to_bits() >> 52 & 0x7FF) as i32 - 1023;
    let step = 2f64.powi(exponent.max(least_exponent) - fraction);
    let found = (x / step).round_ties_even() * step;
    if found.abs() > largest { f64::INFINITY.copysign(x) } else { found }
}

/// The next number above or below, in a type of 16 bits.
fn neighbour(bits: u16, by: i32, decode: impl Fn(u16) -> f64) -> f64 {
    let negative = bits & 0x8000 != 0;
    let magnitude = i32::from(bits & 0x7FFF);
    let ordered = if negative { -magnitude } else { magnitude } + by;
    // A zero keeps the sign of the number that was rounded to it.
    let is_below = ordered < 0 || (ordered == 0 && negative);
    let bits = if is_below { 0x8000 | (-ordered) as u16 } else { ordered as u16 };
    decode(bits)
}

fn round(
    exact: f64,
    tiny: f64,
    rounding: Rounding,
    nearest: impl Fn(f64) -> f64,
    up: impl Fn(f64) -> f64,
    down: impl Fn(f64) -> f64,
) -> f64 {
    let found = nearest(exact);
    if !exact.is_finite() {
        return found;
    }
    // The sign of the true value minus what was found.
    let error = match exact.partial_cmp(&found) {
        Some(std::cmp::Ordering::Equal) => tiny,
        _ => exact - found,
    };
    let towards = match rounding {
        // Rounding `exact` alone may be wrong: it may be a tie that `tiny` breaks the other way.
        Rounding::Nearest | Rounding::Away
            if tiny != 0.0 && exact != found && found.is_finite() =>
        {
            let other = if exact > found { up(found) } else { down(found) };
            let is_tie = (other - exact).abs() == (exact - found).abs();
            return if is_tie && (tiny > 0.0) == (exact > found) { other } else { found };
        }
        Rounding::Nearest => return found,
        Rounding::Away => {
            let other = if exact > found { up(found) } else { down(found) };
            let is_tie = exact != found && (other - exact).abs() == (exact - found).abs();
            return if is_tie && other.abs() > found.abs() { other } else { found };
        }
        Rounding::Zero => {
            if exact > 0.0 {
                -1.0
            } else {
                1.0
            }
        }
        Rounding::Down => -1.0,
        Rounding::Up => 1.0,
    };
    if towards < 0.0 && error < 0.0 {
        down(found)
    } else if towards > 0.0 && error > 0.0 {
        up(found)
    } else {
        found
    }
}

/// Replaces a subnormal number by a zero of its sign, if `flush`.
pub(crate) fn flush(ty: Type, bits: u64, flush: bool) -> u64 {
    let x = f32::from_bits(bits as u32);
    if flush && ty == Type::F32 && x.is_subnormal() { bits & 0x8000_0000 } else { bits }
}

fn is_nan(ty: Type, bits: u64) -> bool {
    decode(ty, bits).is_nan()
}

/// The NaN that operations return.
fn nan(ty: Type) -> u64 {
    match ty {
        Type::F16 | Type::BF16 => 0x7FFF,
        Type::F32 => 0x7FFF_FFFF,
        _ => 0x7FFF_FFFF_FFFF_FFFF,
    }
}

fn sign_bit(ty: Type) -> u64 {
    1 << (ty.bits() - 1)
}

/// `a + b`, and what rounding it to f64 lost (Knuth's TwoSum).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let lost = (a - (sum - b_part)) + (b - b_part);
    (sum, if lost.is_finite() { lost } else { 0.0 })
}

fn finish(ty: Type, mode: Mode, exact: f64, tiny: f64) -> u64 {
    if exact.is_nan() {
        return if mode.saturate { 0 } else { nan(ty) };
    }
    let (exact, tiny) = match exact {
        x if mode.saturate && x > 1.0 => (1.0, 0.0),
        x if mode.saturate && x < 0.0 => (0.0, 0.0),
        x if mode.relu && x < 0.0 => (0.0, 0.0),
        x => (x, tiny),
    };
    flush(ty, encode(ty, exact, tiny, mode.rounding), mode.flush)
}

/// An operation on two floats. The caller splits types of two halves.
pub(crate) fn binary(op: Binary, ty: Type, mode: Mode, a: u64, b: u64) -> Option<u64> {
    let (a, b) = (flush(ty, a, mode.flush), flush(ty, b, mode.flush));
    let (x, y) = (decode(ty, a), decode(ty, b));
    Some(match op {
        Binary::Add | Binary::Sub => {
            let y = if op == Binary::Sub { -y } else { y };
            let (sum, lost) = two_sum(x, y);
            if ty == Type::F64 && mode.rounding == Rounding::Nearest {
                return Some(finish(ty, mode, sum, 0.0));
            }
            finish(ty, mode, sum, lost)
        }
        Binary::Mul => {
            let product = x * y;
            let lost = if ty == Type::F64 { x.mul_add(y, -product) } else { 0.0 };
            let lost =
                if mode.rounding == Rounding::Nearest || !lost.is_finite() { 0.0 } else { lost };
            finish(ty, mode, product, lost)
        }
        Binary::Div if mode.flat && y.is_finite() && y.abs() > 2f64.powi(126) => {
            let zero = 0f64.copysign(x) * y.signum();
            finish(ty, mode, if x.is_finite() { zero } else { f64::NAN }, 0.0)
        }
        Binary::Div => {
            let quotient = x / y;
            // The sign of the remainder says on which side the exact quotient lies.
            let rest = (-quotient).mul_add(y, x);
            let tiny = if rest.is_finite() && y != 0.0 { rest * y.signum() } else { 0.0 };
            let tiny =
                if ty == Type::F64 && mode.rounding == Rounding::Nearest { 0.0 } else { tiny };
            finish(ty, mode, quotient, tiny)
        }
        Binary::Min | Binary::Max => {
            let result = match (x.is_nan(), y.is_nan()) {
                (true, true) => nan(ty),
                (true, false) | (false, true) if mode.nan => nan(ty),
                (true, false) => b,
                (false, true) => a,
                // −0 is less than +0.
                _ if x == y => {
                    let negative = if a & sign_bit(ty) != 0 { a } else { b };
                    let positive = if a & sign_bit(ty) != 0 { b } else { a };
                    if op == Binary::Min { negative } else { positive }
                }
                _ if (x < y) == (op == Binary::Min) => a,
                _ => b,
            };
            return Some(result);
        }
        // The result takes its sign from the first operand.
        Binary::CopySign => (b & !sign_bit(ty)) | (a & sign_bit(ty)),
        _ => return None,
    })
}

/// `a·b + c`, rounded once.
pub(crate) fn fma(ty: Type, mode: Mode, a: u64, b: u64, c: u64) -> u64 {
    let [a, b, c] = [a, b, c].map(|bits| flush(ty, bits, mode.flush));
    let (x, y, z) = (decode(ty, a), decode(ty, b), decode(ty, c));
    if ty == Type::F64 {
        return finish(ty, mode, x.mul_add(y, z), 0.0);
    }
    if ty == Type::F32 && mode.rounding == Rounding::Nearest {
        let [x, y, z] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
        return finish(ty, mode, x.mul_add(y, z).into(), 0.0);
    }
    // The product is exact.
    let (sum, lost) = two_sum(x * y, z);
    finish(ty, mode, sum, lost)
}

/// An operation on one float. The approximate ones are computed in f64 and rounded, which is more
/// precise than the hardware.
pub(crate) fn unary(op: Unary, ty: Type, mode: Mode, a: u64) -> Option<u64> {
    let a = flush(ty, a, mode.flush);
    let x = decode(ty, a);
    let y = match op {
        Unary::Neg => return Some(if is_nan(ty, a) { nan(ty) } else { a ^ sign_bit(ty) }),
        Unary::Abs => return Some(a & !sign_bit(ty)),
        Unary::Rcp => 1.0 / x,
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Exp2 => x.exp2(),
        Unary::Log2 => x.log2(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tanh => x.tanh(),
        _ => return None,
    };
    Some(finish(ty, mode, y, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32_of(bits: u64) -> f32 {
        f32::from_bits(bits as u32)
    }

    #[test]
    fn directed_rounding_of_sums_whose_parts_are_far_apart() {
        let mode = |rounding| Mode { rounding, ..Mode::default() };
        let add = |a: f32, b: f32, rounding| {
            let (a, b) = (a.to_bits().into(), b.to_bits().into());
            f32_of(binary(Binary::Add, Type::F32, mode(rounding), a, b).unwrap())
        };
        for (big, small) in [(1.0f32, 1e-30f32), (16_777_216.0, 0.3), (-1.0, 1e-30), (3.0, -1e-40)]
        {
            assert_eq!(add(big, small, Rounding::Nearest), big + small);
            let up = if small > 0.0 { big.next_up() } else { big };
            let down = if small < 0.0 { big.next_down() } else { big };
            assert_eq!(add(big, small, Rounding::Up), up);
            assert_eq!(add(big, small, Rounding::Down), down);
            assert_eq!(add(big, small, Rounding::Zero), if big > 0.0 { down } else { up });
        }
    }

    #[test]
    fn sixteen_bits_round_once() {
        // A tie between two f16 numbers, except for a part that f64 holds and f32 does not.
        let exact = 1.0 + 2f64.powi(-11);
        let rn = |x: f64| decode(Type::F16, encode(Type::F16, x, 0.0, Rounding::Nearest));
        assert_eq!((rn(exact), rn(exact + 2f64.powi(-40))), (1.0, 1.0 + 2f64.powi(-10)));
        let with = |tiny: f64| decode(Type::F16, encode(Type::F16, exact, tiny, Rounding::Nearest));
        assert_eq!((with(1e-300), with(-1e-300)), (1.0 + 2f64.powi(-10), 1.0));
        let zero = |x: f64| decode(Type::BF16, encode(Type::BF16, x, 0.0, Rounding::Zero));
        assert_eq!((zero(1.999), zero(-1.999)), (1.9921875, -1.9921875));
    }

    #[test]
    fn extremes_take_the_number_beside_nan_and_order_zeros() {
        let apply = |op, a: f32, b: f32, mode| {
            f32_of(binary(op, Type::F32, mode, a.to_bits().into(), b.to_bits().into()).unwrap())
        };
        let plain = Mode::default();
        assert_eq!(apply(Binary::Max, f32::NAN, 2.0, plain), 2.0);
        assert!(apply(Binary::Max, f32::NAN, 2.0, Mode { nan: true, ..plain }).is_nan());
        assert!(apply(Binary::Min, 0.0, -0.0, plain).is_sign_negative());
        assert!(apply(Binary::Max, -0.0, 0.0, plain).is_sign_positive());
        assert_eq!(apply(Binary::CopySign, -1.0, 3.0, plain), -3.0);
        let tiny = Mode { flush: true, ..plain };
        assert_eq!(apply(Binary::Add, 1e-40, 0.0, tiny), 0.0);
    }
}
