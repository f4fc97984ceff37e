//! Matrix products of a warp: which element of a tile each register holds, and the product.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::instruction::{Element, Type};
use crate::warp::LANES;

/// One register of each lane.
type Register = [u32; LANES];

/// A tile's elements, row by row; a tile is at most 16 × 32 or 32 × 8.
pub(crate) type Tile = [f32; 512];

fn element_bits(element: Element) -> u32 {
    match element {
        Element::F16 | Element::BF16 => 16,
        Element::TF32 => 32,
        Element::S8 | Element::U8 => 8,
    }
}

/// Decodes the bits of elements to numbers.
pub(crate) fn decode(element: Element, bits: &[u32], numbers: &mut [f32]) {
    let each = |numbers: &mut [f32], f: fn(u32) -> f32| {
        numbers.iter_mut().zip(bits).for_each(|(number, bits)| *number = f(*bits));
    };
    match element {
        Element::F16 => {
            for (numbers, bits) in numbers.chunks_mut(128).zip(bits.chunks(128)) {
                let mut halves = [f16::ZERO; 128];
                for (half, bits) in halves.iter_mut().zip(bits) {
                    *half = f16::from_bits(*bits as u16);
                }
                halves[..bits.len()].convert_to_f32_slice(numbers);
            }
        }
        Element::BF16 => each(numbers, |bits| f32::from_bits(bits << 16)),
        // The hardware reads only the upper 19 bits.
        Element::TF32 => each(numbers, |bits| f32::from_bits(bits & !0x1FFF)),
        Element::S8 => each(numbers, |bits| (bits as u8 as i8).into()),
        Element::U8 => each(numbers, |bits| (bits as u8).into()),
    }
}

/// Collects a tile of elements of `BITS` bits from the registers. `place` gives the place in the
/// tile of the first element in a lane's register; each following one lies `step` further on.
fn gather<const BITS: u32>(
    registers: &[Register],
    place: impl Fn(usize, usize) -> usize,
    step: usize,
) -> [u32; 512] {
    let mut tile = [0; 512];
    for (i, register) in registers.iter().enumerate() {
        for (lane, register) in register.iter().enumerate() {
            let first = place(i, lane);
            for part in 0..32 / BITS {
                let element = register >> (part * BITS) & (u32::MAX >> (32 - BITS));
                tile[first + part as usize * step] = element;
            }
        }
    }
    tile
}

/// Collects a tile of this element type.
fn tile(
    element: Element,
    registers: &[Register],
    place: impl Fn(usize, usize) -> usize,
    step: usize,
) -> Tile {
    let bits = match element_bits(element) {
        8 => gather::<8>(registers, place, step),
        16 => gather::<16>(registers, place, step),
        _ => gather::<32>(registers, place, step),
    };
    let (len, mut tile) =
        (registers.len() * LANES * 32 / element_bits(element) as usize, [0.0; 512]);
    decode(element, &bits[..len], &mut tile[..len]);
    tile
}

/// The tile of A `[16, k]`, from the registers of each lane.
pub(crate) fn tile_a(element: Element, k: u32, registers: &[Register; 4]) -> Tile {
    let (k, per) = (k as usize, 32 / element_bits(element) as usize);
    let place =
        |i: usize, lane: usize| (lane / 4 + 8 * (i % 2)) * k + per * (lane % 4) + i / 2 * 4 * per;
    tile(element, &registers[..k / (2 * per)], place, 1)
}

/// The tile of B `[k, 8]`.
pub(crate) fn tile_b(element: Element, k: u32, registers: &[Register; 4]) -> Tile {
    let (k, per) = (k as usize, 32 / element_bits(element) as usize);
    let place = |i: usize, lane: usize| (per * (lane % 4) + i * 4 * per) * 8 + lane / 4;
    tile(element, &registers[..k / (4 * per)], place, 8)
}

/// Computes `a·b + c` in the registers of each lane.
pub(crate) fn product(to: Type, k: u32, a: &Tile, b: &Tile, c: &[Register; 4]) -> [Register; 4] {
    let mut d = [[0; LANES]; 4];
    let mut of_b = [0.0; 256];
    of_b.iter_mut().zip(b).for_each(|(wide, b)| *wide = f64::from(*b));
    for row in 0..16 {
        let mut sums = [-0.0; 8];
        let of_a = &a[row * k as usize..(row + 1) * k as usize];
        for (a, b) in of_a.iter().zip(of_b.as_chunks::<8>().0) {
            let a = f64::from(*a);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
        for (column, sum) in sums.into_iter().enumerate() {
            // The place of the sum: its lane, and its number among the lane's four sums.
            let (lane, i) = (row % 8 * 4 + column / 2, row / 8 * 2 + column % 2);
            match to {
                Type::F32 => {
                    let c = f64::from(f32::from_bits(c[i][lane]));
                    d[i][lane] = ((sum + c) as f32).to_bits();
                }
                Type::F16 => {
                    let shift = 16 * (i % 2);
                    let c = f16::from_bits((c[i / 2][lane] >> shift) as u16).to_f64();
                    d[i / 2][lane] |= u32::from(f16::from_f64(sum + c).to_bits()) << shift;
                }
                _ => d[i][lane] = c[i][lane].wrapping_add(sum as i64 as u32),
            }
        }
    }
    d
}
