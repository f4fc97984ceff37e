//! Matrix products of a warp: which element of a tile each register holds, and the product.

use half::{bf16, f16};

use crate::instruction::{Element, Type};
use crate::warp::LANES;

/// One register of each lane.
type Register = [u32; LANES];

/// A tile's elements, by rows, of at most 16 × 32 or 32 × 8.
pub(crate) type Tile = [f64; 512];

fn element_bits(element: Element) -> u32 {
    match element {
        Element::F16 | Element::BF16 => 16,
        Element::TF32 => 32,
        Element::S8 | Element::U8 => 8,
    }
}

fn decode(element: Element, bits: u32) -> f64 {
    match element {
        Element::F16 => f16::from_bits(bits as u16).to_f64(),
        Element::BF16 => bf16::from_bits(bits as u16).to_f64(),
        // The hardware looks at the upper 19 bits alone.
        Element::TF32 => f32::from_bits(bits & !0x1FFF).into(),
        Element::S8 => (bits as u8 as i8).into(),
        Element::U8 => (bits as u8).into(),
    }
}

/// The parts of a register, from the lowest.
fn parts(element: Element, register: u32) -> impl Iterator<Item = (usize, f64)> {
    let bits = element_bits(element);
    let mask = u32::MAX >> (32 - bits);
    (0..32 / bits).map(move |i| (i as usize, decode(element, register >> (i * bits) & mask)))
}

/// The tile of A `[16, k]`, from the registers of each lane.
pub(crate) fn tile_a(element: Element, k: u32, registers: &[Register; 4]) -> Tile {
    let (k, per) = (k as usize, 32 / element_bits(element) as usize);
    let mut tile = [0.0; 512];
    for (i, register) in registers.iter().take(2 * k / (4 * per)).enumerate() {
        for (lane, register) in register.iter().enumerate() {
            for (j, x) in parts(element, *register) {
                let column = per * (lane % 4) + j + i / 2 * 4 * per;
                tile[(lane / 4 + 8 * (i % 2)) * k + column] = x;
            }
        }
    }
    tile
}

/// The tile of B `[k, 8]`.
pub(crate) fn tile_b(element: Element, k: u32, registers: &[Register; 4]) -> Tile {
    let (k, per) = (k as usize, 32 / element_bits(element) as usize);
    let mut tile = [0.0; 512];
    for (i, register) in registers.iter().take(k / (4 * per)).enumerate() {
        for (lane, register) in register.iter().enumerate() {
            for (j, x) in parts(element, *register) {
                tile[(per * (lane % 4) + j + i * 4 * per) * 8 + lane / 4] = x;
            }
        }
    }
    tile
}

/// `a·b + c` in the registers of each lane.
pub(crate) fn product(to: Type, k: u32, a: &Tile, b: &Tile, c: &[Register; 4]) -> [Register; 4] {
    let mut d = [[0; LANES]; 4];
    for row in 0..16 {
        let mut sums = [-0.0; 8];
        let of_a = &a[row * k as usize..(row + 1) * k as usize];
        for (a, b) in of_a.iter().zip(b.as_chunks::<8>().0) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
        for (column, sum) in sums.into_iter().enumerate() {
            // Where the sum lies: the lane, and of its four sums which.
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
