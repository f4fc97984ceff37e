//! Arithmetic on all lanes at once. The common instructions are loops that the compiler turns into
//! vector code.
//!
//! [`float`] and [`integer`] compute all other instructions lane by lane. They define what is
//! right, and the tests compare these loops with them.

use half::{bf16, f16};

use super::by_parts;
use crate::float;
use crate::instruction::{Binary, Comparison, Mode, Rounding, Ternary, Type, Unary};
use crate::integer;
use crate::warp::{LANES, Values, lanes};

#[inline(always)]
fn map(a: &Values, out: &mut Values, f: impl Fn(u64) -> u64) {
    for (out, a) in out.iter_mut().zip(a) {
        *out = f(*a);
    }
}

#[inline(always)]
fn zip(a: &Values, b: &Values, out: &mut Values, f: impl Fn(u64, u64) -> u64) {
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = f(*a, *b);
    }
}

/// An f32, with a subnormal number as zero if `FLUSH`.
#[inline(always)]
fn load<const FLUSH: bool>(bits: u64) -> f32 {
    let bits = bits as u32;
    let flushed = FLUSH && bits & 0x7F80_0000 == 0;
    f32::from_bits(if flushed { bits & 0x8000_0000 } else { bits })
}

#[inline(always)]
fn store<const FLUSH: bool>(x: f32) -> u64 {
    let bits = load::<FLUSH>(x.to_bits().into()).to_bits();
    u64::from(if x.is_nan() { 0x7FFF_FFFF } else { bits })
}

/// Whether the float loops support a mode.
fn plain(mode: Mode) -> bool {
    mode.rounding == Rounding::Nearest && !mode.saturate && !mode.relu && !mode.flat
}

pub(super) fn unary(op: Unary, ty: Type, mode: Mode, active: u32, a: &Values, out: &mut Values) {
    if ty == Type::F32 && plain(mode) {
        let f: fn(f64) -> f64 = match op {
            Unary::Rcp => |x| 1.0 / x,
            Unary::Sqrt => f64::sqrt,
            Unary::Rsqrt => |x| 1.0 / x.sqrt(),
            Unary::Exp2 => f64::exp2,
            Unary::Log2 => f64::log2,
            _ => |x| x,
        };
        match (op, mode.flush) {
            (Unary::Rcp | Unary::Sqrt | Unary::Rsqrt | Unary::Exp2 | Unary::Log2, true) => {
                lanes(active).for_each(|l| {
                    out[l] = store::<true>(f(load::<true>(a[l]).into()) as f32);
                });
                return;
            }
            (Unary::Rcp | Unary::Sqrt | Unary::Rsqrt | Unary::Exp2 | Unary::Log2, false) => {
                lanes(active).for_each(|l| {
                    out[l] = store::<false>(f(load::<false>(a[l]).into()) as f32);
                });
                return;
            }
            (Unary::Abs, false) => return map(a, out, |a| a & 0x7FFF_FFFF),
            _ => {}
        }
    }
    for lane in lanes(active) {
        out[lane] = by_parts(ty, [a[lane], 0, 0], |ty, [a, ..]| super::unary(op, ty, mode, a));
    }
}

pub(super) fn binary(
    op: Binary,
    ty: Type,
    mode: Mode,
    active: u32,
    [a, b]: [&Values; 2],
    out: &mut Values,
) {
    let done = match ty {
        Type::F32 if plain(mode) && mode.flush => binary_f32::<true>(op, mode, a, b, out),
        Type::F32 if plain(mode) => binary_f32::<false>(op, mode, a, b, out),
        Type::Pred | Type::B(_) | Type::U(_) | Type::S(_) if !mode.saturate => {
            binary_integer(op, ty, a, b, out)
        }
        _ => false,
    };
    if done {
        return;
    }
    for lane in lanes(active) {
        out[lane] = by_parts(ty, [a[lane], b[lane], 0], |ty, [a, b, _]| match ty.is_float() {
            true => float::binary(op, ty, mode, a, b),
            false => integer::binary(op, ty, mode, a, b),
        });
    }
}

#[inline(always)]
fn zip_f32<const FLUSH: bool>(
    a: &Values,
    b: &Values,
    out: &mut Values,
    f: impl Fn(f32, f32) -> f32,
) -> bool {
    zip(a, b, out, |a, b| store::<FLUSH>(f(load::<FLUSH>(a), load::<FLUSH>(b))));
    true
}

fn binary_f32<const FLUSH: bool>(
    op: Binary,
    mode: Mode,
    a: &Values,
    b: &Values,
    out: &mut Values,
) -> bool {
    match op {
        Binary::Add => zip_f32::<FLUSH>(a, b, out, |x, y| x + y),
        Binary::Sub => zip_f32::<FLUSH>(a, b, out, |x, y| x - y),
        Binary::Mul => zip_f32::<FLUSH>(a, b, out, |x, y| x * y),
        Binary::Div => zip_f32::<FLUSH>(a, b, out, |x, y| x / y),
        Binary::Min | Binary::Max if !mode.nan => {
            let largest = op == Binary::Max;
            zip(a, b, out, |a, b| {
                let (x, y) = (load::<FLUSH>(a), load::<FLUSH>(b));
                let (a, b) = (x.to_bits(), y.to_bits());
                let first = if largest { x > y } else { x < y };
                // −0 is less than +0; equal numbers differ only in the sign.
                let equal = if largest { a & b } else { a | b };
                let chosen = if x == y {
                    equal
                } else if first {
                    a
                } else {
                    b
                };
                let beside = if x.is_nan() { b } else { a };
                let any = x.is_nan() | y.is_nan();
                let both = x.is_nan() & y.is_nan();
                u64::from(if both {
                    0x7FFF_FFFF
                } else if any {
                    beside
                } else {
                    chosen
                })
            });
            true
        }
        _ => false,
    }
}

fn binary_integer(op: Binary, ty: Type, a: &Values, b: &Values, out: &mut Values) -> bool {
    let bits = ty.bits();
    let (mask, unused) = (integer::low(bits, u64::MAX), 64 - bits);
    let is_signed = matches!(ty, Type::S(_));
    let signed = |x: u64| ((x << unused) as i64) >> unused;
    match op {
        Binary::Add => zip(a, b, out, |a, b| a.wrapping_add(b) & mask),
        Binary::Sub => zip(a, b, out, |a, b| a.wrapping_sub(b) & mask),
        Binary::And => zip(a, b, out, |a, b| a & b & mask),
        Binary::Or => zip(a, b, out, |a, b| (a | b) & mask),
        Binary::Xor => zip(a, b, out, |a, b| (a ^ b) & mask),
        Binary::MulLow => zip(a, b, out, |a, b| a.wrapping_mul(b) & mask),
        Binary::MulWide if bits > 32 => return false,
        Binary::MulWide if is_signed => {
            let mask = integer::low(2 * bits, u64::MAX);
            zip(a, b, out, |a, b| signed(a).wrapping_mul(signed(b)) as u64 & mask);
        }
        Binary::MulWide => zip(a, b, out, |a, b| (a & mask).wrapping_mul(b & mask)),
        Binary::MulHigh if bits > 32 => return false,
        Binary::MulHigh if is_signed => {
            zip(a, b, out, |a, b| (signed(a).wrapping_mul(signed(b)) >> bits) as u64 & mask);
        }
        Binary::MulHigh => zip(a, b, out, |a, b| (a & mask).wrapping_mul(b & mask) >> bits & mask),
        Binary::Min if is_signed => zip(a, b, out, |a, b| signed(a).min(signed(b)) as u64 & mask),
        Binary::Max if is_signed => zip(a, b, out, |a, b| signed(a).max(signed(b)) as u64 & mask),
        Binary::Min => zip(a, b, out, |a, b| (a & mask).min(b & mask)),
        Binary::Max => zip(a, b, out, |a, b| (a & mask).max(b & mask)),
        Binary::Shl => zip(a, b, out, |a, b| {
            let amount = b & 0xFFFF_FFFF;
            if amount >= bits.into() { 0 } else { a << (amount & 63) & mask }
        }),
        Binary::Shr if is_signed => zip(a, b, out, |a, b| {
            let amount = (b & 0xFFFF_FFFF).min(u64::from(bits) - 1);
            (signed(a) >> amount) as u64 & mask
        }),
        Binary::Shr => zip(a, b, out, |a, b| {
            let amount = b & 0xFFFF_FFFF;
            if amount >= bits.into() { 0 } else { (a & mask) >> (amount & 63) }
        }),
        // 64-bit arithmetic cannot divide wider numbers.
        Binary::Div | Binary::Rem if bits <= 32 && !is_signed => {
            let divide = op == Binary::Div;
            zip(a, b, out, |a, b| match (b & mask, divide) {
                (0, true) => mask,
                (0, false) => a & mask,
                (b, true) => (a & mask) / b,
                (b, false) => (a & mask) % b,
            });
        }
        Binary::Div | Binary::Rem if bits <= 32 => {
            let divide = op == Binary::Div;
            zip(a, b, out, |a, b| match (signed(b), divide) {
                (0, true) => mask,
                (0, false) => a & mask,
                (b, true) => (signed(a) / b) as u64 & mask,
                (b, false) => (signed(a) % b) as u64 & mask,
            });
        }
        _ => return false,
    }
    true
}

pub(super) fn ternary(
    op: Ternary,
    ty: Type,
    mode: Mode,
    active: u32,
    [a, b, c]: [&Values; 3],
    out: &mut Values,
) {
    match (op, ty) {
        (Ternary::Fma, Type::F32) if plain(mode) => {
            let done = match mode.flush {
                true => fma::<true>([a, b, c], out),
                false => fma::<false>([a, b, c], out),
            };
            if done {
                return;
            }
        }
        (Ternary::MadLow, _) if !mode.saturate && binary_integer(Binary::MulLow, ty, a, b, out) => {
            let mask = integer::low(ty.bits(), u64::MAX);
            return out.iter_mut().zip(c).for_each(|(x, c)| *x = x.wrapping_add(*c) & mask);
        }
        (Ternary::MadWide, _)
            if !mode.saturate && binary_integer(Binary::MulWide, ty, a, b, out) =>
        {
            let mask = integer::low(2 * ty.bits(), u64::MAX);
            return out.iter_mut().zip(c).for_each(|(x, c)| *x = x.wrapping_add(*c) & mask);
        }
        _ => {}
    }
    for lane in lanes(active) {
        out[lane] = by_parts(ty, [a[lane], b[lane], c[lane]], |ty, [a, b, c]| match op {
            Ternary::Fma => Some(float::fma(ty, mode, a, b, c)),
            op => integer::ternary(op, ty, mode, a, b, c),
        });
    }
}

/// Computes in f64, where the product is exact, so that the sum rounds twice. The result is right
/// unless the first rounding gives a tie of two floats, or a number that is subnormal as a float.
/// In these cases it returns false.
fn fma<const FLUSH: bool>([a, b, c]: [&Values; 3], out: &mut Values) -> bool {
    let mut doubtful = false;
    for i in 0..LANES {
        let [x, y, z] = [a[i], b[i], c[i]].map(|bits| f64::from(load::<FLUSH>(bits)));
        let sum = x * y + z;
        doubtful |= sum.to_bits() & 0x1FFF_FFFF == 0x1000_0000;
        doubtful |= (sum.abs() < f64::from(f32::MIN_POSITIVE)) & (sum != 0.0);
        out[i] = store::<FLUSH>(sum as f32);
    }
    !doubtful
}

/// The lanes in which a comparison holds.
pub(super) fn compare(
    comparison: Comparison,
    ty: Type,
    flush: bool,
    active: u32,
    a: &Values,
    b: &Values,
) -> u32 {
    use Comparison::{Eq, Equ, Ge, Geu, Gt, Gtu, Le, Leu, Lt, Ltu, Ne, Neu};
    #[inline(always)]
    fn mask(a: &Values, b: &Values, f: impl Fn(u64, u64) -> bool) -> u32 {
        a.iter().zip(b).rev().fold(0, |mask, (a, b)| mask << 1 | u32::from(f(*a, *b)))
    }
    if let Type::B(_) | Type::U(_) | Type::S(_) = ty {
        let unused = 64 - ty.bits();
        // Flip the highest bit of unsigned numbers, so that a signed comparison orders them.
        let turn = if let Type::S(_) = ty { 0 } else { 1 << 63 };
        let key = |x: u64| (x << unused ^ turn) as i64;
        return match comparison {
            Eq | Equ => mask(a, b, |a, b| key(a) == key(b)),
            Ne | Neu => mask(a, b, |a, b| key(a) != key(b)),
            Lt | Ltu => mask(a, b, |a, b| key(a) < key(b)),
            Le | Leu => mask(a, b, |a, b| key(a) <= key(b)),
            Gt | Gtu => mask(a, b, |a, b| key(a) > key(b)),
            Ge | Geu => mask(a, b, |a, b| key(a) >= key(b)),
            Comparison::Num => u32::MAX,
            Comparison::Nan => 0,
        };
    }
    let holds = |lane: &usize| integer::compare(comparison, ty, flush, a[*lane], b[*lane]);
    lanes(active).filter(holds).fold(0, |mask, lane| mask | 1 << lane)
}

#[allow(clippy::too_many_arguments, reason = "an instruction's parts")]
pub(super) fn convert(
    to: Type,
    from: Type,
    mode: Mode,
    to_integer: bool,
    active: u32,
    a: &Values,
    out: &mut Values,
) {
    let simple = plain(mode) && !mode.flush;
    match (from, to) {
        (Type::F32, Type::F16 | Type::BF16) if simple && !to_integer => {
            let nan = integer::convert(to, from, mode, false, f32::NAN.to_bits().into());
            for lane in lanes(active) {
                let x = f32::from_bits(a[lane] as u32);
                out[lane] = match to {
                    _ if x.is_nan() => nan,
                    Type::F16 => f16::from_f32(x).to_bits().into(),
                    _ => bf16::from_f32(x).to_bits().into(),
                };
            }
        }
        (Type::F16, Type::F32) if simple && !to_integer => {
            let nan = integer::convert(to, from, mode, false, f16::NAN.to_bits().into());
            for lane in lanes(active) {
                let x = f16::from_bits(a[lane] as u16);
                out[lane] = if x.is_nan() { nan } else { x.to_f32().to_bits().into() };
            }
        }
        (Type::BF16, Type::F32) if simple && !to_integer => {
            let nan = integer::convert(to, from, mode, false, bf16::NAN.to_bits().into());
            map(a, out, |a| if a & 0x7FFF > 0x7F80 { nan } else { (a & 0xFFFF) << 16 });
        }
        (Type::S(32), Type::F32) if simple => {
            map(a, out, |a| (a as i32 as f32).to_bits().into());
        }
        (Type::U(32), Type::F32) if simple => {
            map(a, out, |a| (a as u32 as f32).to_bits().into());
        }
        (Type::F32, Type::S(32)) if mode.rounding == Rounding::Zero && !mode.flush => {
            map(a, out, |a| f32::from_bits(a as u32) as i32 as u32 as u64);
        }
        (Type::B(_) | Type::U(_) | Type::S(_), Type::B(_) | Type::U(_) | Type::S(_))
            if !mode.saturate =>
        {
            let (unused, mask) = (64 - from.bits(), integer::low(to.bits(), u64::MAX));
            match from {
                Type::S(_) => map(a, out, |a| (((a << unused) as i64) >> unused) as u64 & mask),
                _ => map(a, out, |a| a << unused >> unused & mask),
            }
        }
        _ => {
            for lane in lanes(active) {
                out[lane] = integer::convert(to, from, mode, to_integer, a[lane]);
            }
        }
    }
    // In a wider register a signed number is sign-extended.
    if let Type::S(bits) = to {
        let unused = 64 - u32::from(bits);
        out.iter_mut().for_each(|x| *x = (((*x << unused) as i64) >> unused) as u64);
    }
}

#[cfg(test)]
mod tests;
