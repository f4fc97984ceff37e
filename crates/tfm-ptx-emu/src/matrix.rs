//! Matrix products of a warp: which element of a tile each register holds, and the product.

use half::{bf16, f16};

use crate::instruction::{Element, Type};
use crate::warp::LANES;

/// A tile's elements, by rows.
pub(crate) struct Tile {
    columns: usize,
    elements: Vec<f64>,
}

impl Tile {
    fn new(rows: usize, columns: usize) -> Tile {
        Tile { columns, elements: vec![0.0; rows * columns] }
    }

    fn at(&mut self, [row, column]: [usize; 2]) -> &mut f64 {
        &mut self.elements[row * self.columns + column]
    }
}

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
pub(crate) fn tile_a(element: Element, k: u32, lanes: &[[u32; 4]; LANES]) -> Tile {
    let per = 32 / element_bits(element) as usize;
    let mut tile = Tile::new(16, k as usize);
    for (lane, registers) in lanes.iter().enumerate() {
        for (i, register) in registers.iter().take(2 * k as usize / (4 * per)).enumerate() {
            for (j, x) in parts(element, *register) {
                let column = per * (lane % 4) + j + i / 2 * 4 * per;
                *tile.at([lane / 4 + 8 * (i % 2), column]) = x;
            }
        }
    }
    tile
}

/// The tile of B `[k, 8]`.
pub(crate) fn tile_b(element: Element, k: u32, lanes: &[[u32; 4]; LANES]) -> Tile {
    let per = 32 / element_bits(element) as usize;
    let mut tile = Tile::new(k as usize, 8);
    for (lane, registers) in lanes.iter().enumerate() {
        for (i, register) in registers.iter().take(k as usize / (4 * per)).enumerate() {
            for (j, x) in parts(element, *register) {
                *tile.at([per * (lane % 4) + j + i * 4 * per, lane / 4]) = x;
            }
        }
    }
    tile
}

/// The registers of C or D: each sum's row and column.
fn place(lane: usize, i: usize) -> [usize; 2] {
    [lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2]
}

/// `a·b + c` in the registers of each lane.
pub(crate) fn product(
    to: Type,
    k: u32,
    mut a: Tile,
    mut b: Tile,
    c: &[[u32; 4]; LANES],
) -> [[u32; 4]; LANES] {
    let mut d = [[0; 4]; LANES];
    for lane in 0..LANES {
        for i in 0..4 {
            let [row, column] = place(lane, i);
            let sum: f64 = (0..k as usize).map(|p| *a.at([row, p]) * *b.at([p, column])).sum();
            match to {
                Type::F32 => {
                    let c = f64::from(f32::from_bits(c[lane][i]));
                    d[lane][i] = ((sum + c) as f32).to_bits();
                }
                Type::F16 => {
                    let shift = 16 * (i % 2);
                    let c = f16::from_bits((c[lane][i / 2] >> shift) as u16).to_f64();
                    d[lane][i / 2] |= u32::from(f16::from_f64(sum + c).to_bits()) << shift;
                }
                _ => d[lane][i] = c[lane][i].wrapping_add(sum as i64 as u32),
            }
        }
    }
    d
}
