//! The loops compute the same bits as the functions for one lane.

use super::*;

const INTEGERS: [Type; 8] = [
    Type::U(16),
    Type::S(16),
    Type::B(32),
    Type::U(32),
    Type::S(32),
    Type::B(64),
    Type::U(64),
    Type::S(64),
];

/// Random bits, among them many special values: zeros, ones, signs, subnormal numbers, infinities,
/// ties.
fn samples(seed: u64) -> Values {
    let special = [
        0,
        1,
        0x8000_0000,
        0x7F80_0000,
        0xFF80_0000,
        0x7FC0_0001,
        0x0000_0007,
        0x8040_0000,
        0x3F80_0000,
        0x3F80_0001,
        0x3380_0000,
        0xB380_0000,
        0x7F7F_FFFF,
        0x4B80_0000,
        u64::MAX,
        1 << 63,
        31,
        32,
        33,
        64,
        0x7FFF_FFFF,
        0xFFFF,
        0x7C00,
        0x3C00,
    ];
    let mut x = seed;
    std::array::from_fn(|_| {
        x = x.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let y = x ^ x >> 29;
        match y % 4 {
            0 => special[(y >> 8) as usize % special.len()],
            // Floats of similar size, so that sums have to round.
            1 => 0x3F00_0000 | y >> 40,
            2 => y >> 32,
            _ => y,
        }
    })
}

fn modes() -> [Mode; 5] {
    let plain = Mode::default();
    [
        plain,
        Mode { flush: true, ..plain },
        Mode { rounding: Rounding::Zero, ..plain },
        Mode { saturate: true, ..plain },
        Mode { nan: true, ..plain },
    ]
}

#[test]
fn of_one_operand() {
    let ops =
        [Unary::Rcp, Unary::Sqrt, Unary::Rsqrt, Unary::Exp2, Unary::Log2, Unary::Abs, Unary::Neg];
    for (op, seed) in ops.into_iter().flat_map(|op| (0..200).map(move |seed| (op, seed))) {
        for mode in modes() {
            let (a, mut out) = (samples(seed), [0; LANES]);
            unary(op, Type::F32, mode, u32::MAX, &a, &mut out);
            for (a, out) in a.into_iter().zip(out) {
                let expected = float::unary(op, Type::F32, mode, a).unwrap();
                assert_eq!(out as u32, expected as u32, "{op:?} {mode:?} {a:#x}");
            }
        }
    }
}

#[test]
fn of_two_operands() {
    use Binary::*;
    let floats = [Add, Sub, Mul, Div, Min, Max];
    for (op, seed) in floats.into_iter().flat_map(|op| (0..300).map(move |seed| (op, seed))) {
        for mode in modes() {
            let (a, b, mut out) = (samples(seed), samples(seed + 1000), [0; LANES]);
            binary(op, Type::F32, mode, u32::MAX, [&a, &b], &mut out);
            for ((a, b), out) in a.into_iter().zip(b).zip(out) {
                let expected = float::binary(op, Type::F32, mode, a, b).unwrap();
                assert_eq!(out as u32, expected as u32, "{op:?} {mode:?} {a:#x} {b:#x}");
            }
        }
    }
    let whole = [Add, Sub, MulLow, MulHigh, MulWide, Div, Rem, Min, Max, And, Or, Xor, Shl, Shr];
    for (op, seed) in whole.into_iter().flat_map(|op| (0..60).map(move |seed| (op, seed))) {
        for ty in INTEGERS {
            if ty.bits() == 64 && op == MulWide {
                continue;
            }
            let (a, b, mut out) = (samples(seed), samples(seed + 1000), [0; LANES]);
            binary(op, ty, Mode::default(), u32::MAX, [&a, &b], &mut out);
            for ((a, b), out) in a.into_iter().zip(b).zip(out) {
                let expected = integer::binary(op, ty, Mode::default(), a, b).unwrap();
                assert_eq!(out, expected, "{op:?} {ty:?} {a:#x} {b:#x}");
            }
        }
    }
}

#[test]
fn of_three_operands() {
    for seed in 0..2000 {
        let [a, b, c] = [samples(seed), samples(seed + 5000), samples(seed + 9000)];
        let mut out = [0; LANES];
        for mode in modes() {
            ternary(Ternary::Fma, Type::F32, mode, u32::MAX, [&a, &b, &c], &mut out);
            for lane in 0..LANES {
                let expected = float::fma(Type::F32, mode, a[lane], b[lane], c[lane]);
                let of = [a[lane], b[lane], c[lane]];
                assert_eq!(out[lane] as u32, expected as u32, "{mode:?} {of:x?}");
            }
        }
        for (op, ty) in [Ternary::MadLow, Ternary::MadWide]
            .into_iter()
            .flat_map(|op| INTEGERS[..5].iter().map(move |ty| (op, *ty)))
        {
            let mode = Mode::default();
            ternary(op, ty, mode, u32::MAX, [&a, &b, &c], &mut out);
            for lane in 0..LANES {
                let expected = integer::ternary(op, ty, mode, a[lane], b[lane], c[lane]).unwrap();
                assert_eq!(out[lane], expected, "{op:?} {ty:?}");
            }
        }
    }
}

#[test]
fn comparisons_and_conversions() {
    use Comparison::*;
    let floats = [Type::F16, Type::BF16, Type::F32];
    for seed in 0..300 {
        let (a, b, mut out) = (samples(seed), samples(seed + 1000), [0; LANES]);
        for ty in INTEGERS.into_iter().chain(floats) {
            for comparison in [Eq, Ne, Lt, Le, Gt, Ge, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan] {
                let found = compare(comparison, ty, false, u32::MAX, &a, &b);
                for lane in 0..LANES {
                    let expected = integer::compare(comparison, ty, false, a[lane], b[lane]);
                    assert_eq!(found >> lane & 1 != 0, expected, "{comparison:?} {ty:?}");
                }
            }
        }
        let types = || INTEGERS.into_iter().chain(floats);
        for (to, from) in types().flat_map(|to| types().map(move |from| (to, from))) {
            for mode in modes() {
                convert(to, from, mode, false, u32::MAX, &a, &mut out);
                for lane in 0..LANES {
                    let value = integer::convert(to, from, mode, false, a[lane]);
                    let expected = match to {
                        Type::S(_) => integer::value(to, value) as u64,
                        _ => value,
                    };
                    let (found, bits) = (out[lane], a[lane]);
                    assert_eq!(found, expected, "{to:?} {from:?} {mode:?} {bits:#x}");
                }
            }
        }
    }
}
