//! Products of a warpgroup: 64 rows, of which each of the four warps computes 16.
//!
//! The interpreter computes a product when it is issued. Until the kernel waits for the product,
//! nothing may use its registers, and the memory that it reads must not change. The memory checks
//! the latter.

use smallvec::SmallVec;

use super::{Machine, Result};
use crate::asynchronous::WRITES;
use crate::fault::Problem;
use crate::float;
use crate::instruction::{Operand, Rounding, Source, Type, Wgmma};
use crate::matrix;
use crate::memory::{Agent, NOBODY, PRODUCTS, Stamp};
use crate::tensor::Swizzle;
use crate::warp::{LANES, Warp};

/// A tile in shared memory, as a descriptor describes it.
#[derive(Clone, Copy)]
struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    swizzle: Swizzle,
}

impl Descriptor {
    fn new(bits: u64) -> std::result::Result<Descriptor, Problem> {
        let field = |shift: u32| (bits >> shift & 0x3FFF) << 4;
        if bits >> 49 & 7 != 0 {
            return Err(Problem::Launch("a descriptor with a base offset".into()));
        }
        let swizzle = match bits >> 62 {
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            3 => Swizzle::Bytes32,
            _ => Swizzle::None,
        };
        Ok(Descriptor { start: field(0), leading: field(16), stride: field(32), swizzle })
    }

    /// The address of 8 adjacent elements. Without transposition they lie along K: in row `major`,
    /// from `8 * minor` on. In a transposed tile they are the rows from `8 * major` on, in column
    /// `minor` of K.
    fn piece(self, transposed: bool, major: u64, minor: u64) -> u64 {
        let Descriptor { start, leading, stride, swizzle } = self;
        let span = swizzle.span();
        let offset = match (transposed, swizzle) {
            (false, Swizzle::None) => major % 8 * 16 + major / 8 * stride + minor * leading,
            (false, _) => major % 8 * 16 * span + major / 8 * stride + minor * 16,
            (true, Swizzle::None) => minor % 8 * 16 + minor / 8 * leading + major * stride,
            (true, _) => {
                major % span * 16
                    + major / span * leading
                    + minor % 8 * 16 * span
                    + minor / 8 * stride
            }
        };
        swizzle.turn(start + offset)
    }
}

impl Machine<'_> {
    pub(super) fn product(&mut self, warp: &mut Warp, product: &Wgmma) -> Result<()> {
        let name = |r: u32| self.kernel.registers[r as usize].name.clone();
        let registers = |operands: &[Operand]| -> SmallVec<[u32; 36]> {
            let register = |operand: &Operand| match operand {
                Operand::Register(r) => Some(*r),
                _ => None,
            };
            operands.iter().filter_map(register).collect()
        };
        let (of_d, of_a) = match &product.a {
            Source::Memory(_) => (registers(&product.d), SmallVec::new()),
            Source::Registers(a) => (registers(&product.d), registers(a)),
        };
        if of_d.len() != product.d.len() {
            return Err((Problem::Launch("a wgmma without a register".into()), 0));
        }
        let add = self.holds(warp, product.add, u32::MAX)?;
        if add != 0 && add != u32::MAX {
            let (operation, here) = ("wgmma: scale-d", add);
            return Err((Problem::Diverged { operation, here, expected: u32::MAX }, 0));
        }
        if let Some(begun) = &warp.begun {
            let unfenced = of_d.iter().chain(&of_a).find(|r| {
                begun.busy[**r as usize] & WRITES == 0
                    && begun.written[**r as usize] >= begun.fences
            });
            if let Some(r) = unfenced {
                return Err((Problem::ProductUnfenced { register: name(*r) }, 0));
            }
            // A cannot be in registers that another product writes.
            if let Some(r) = of_a.iter().find(|r| begun.busy[**r as usize] & WRITES != 0) {
                return Err((Problem::RegisterInFlight { register: name(*r) }, 0));
            }
        }
        let a = self.tile_of_a(warp, product)?;
        let b = self.tile_of_b(warp, product)?;
        self.sums(warp, product, add != 0, &of_d, &a, &b)?;
        if let Some(begun) = &mut warp.begun {
            begun.products += 1;
            of_d.iter().for_each(|r| begun.busy[*r as usize] |= WRITES);
            of_a.iter().for_each(|r| begun.busy[*r as usize] |= 1);
            begun.open.push(of_d.iter().chain(&of_a).copied().collect());
        }
        of_d.iter().for_each(|r| *warp.defined(*r) = 0);
        Ok(())
    }

    /// Reads pieces of 8 elements.
    fn pieces(
        &mut self,
        warp: &mut Warp,
        addresses: impl Iterator<Item = u64>,
        mut put: impl FnMut(usize, [u32; 8]),
    ) -> Result<()> {
        let Some(begun) = &warp.begun else { return Ok(()) };
        let clock = begun.products + 1;
        let agent = Agent {
            stamp: Stamp { block: self.block, warp: PRODUCTS + warp.number, clock },
            known: &warp.clocks,
            lane: NOBODY,
            several: false,
            pairs: None,
            first_block: self.first_block,
            fenced: Some(&begun.fenced),
        };
        for (i, address) in addresses.enumerate() {
            let mut bytes = [0; 16];
            self.shared.read(address, &mut bytes, &agent).map_err(|problem| (problem, 0))?;
            let (halves, _) = bytes.as_chunks::<2>();
            let mut elements = [0; 8];
            for (element, half) in elements.iter_mut().zip(halves) {
                *element = u16::from_le_bytes(*half).into();
            }
            put(i, elements);
        }
        Ok(())
    }

    /// The warp's 16 rows of A, `[16, 16]`.
    fn tile_of_a(&mut self, warp: &mut Warp, product: &Wgmma) -> Result<Vec<f32>> {
        let descriptor = match &product.a {
            Source::Registers(registers) => {
                let mut values = [[0; LANES]; 4];
                for (values, operand) in values.iter_mut().zip(registers) {
                    let mut room = [0; LANES];
                    let wide = warp.fetch(*operand, u32::MAX, &mut room, self)?;
                    values.iter_mut().zip(wide).for_each(|(x, wide)| *x = *wide as u32);
                }
                return Ok(matrix::tile_a(product.element, 16, &values)[..256].to_vec());
            }
            Source::Memory(descriptor) => self.of_lane(warp, *descriptor, 0)?,
        };
        let descriptor = Descriptor::new(descriptor).map_err(|problem| (problem, 0))?;
        let first = u64::from(warp.number % 4) * 16;
        let mut bits = [0; 256];
        if product.transposed[0] {
            let places = (0..32).map(|i| descriptor.piece(true, first / 8 + i / 16, i % 16));
            self.pieces(warp, places, |i, piece| {
                for (j, element) in piece.into_iter().enumerate() {
                    bits[(i / 16 * 8 + j) * 16 + i % 16] = element;
                }
            })?;
        } else {
            let places = (0..32).map(|i| descriptor.piece(false, first + i / 2, i % 2));
            self.pieces(warp, places, |i, piece| {
                bits[i * 8..][..8].copy_from_slice(&piece);
            })?;
        }
        let mut tile = vec![0.0; 256];
        matrix::decode(product.element, &bits, &mut tile);
        Ok(tile)
    }

    /// The matrix B, `[16, n]`.
    fn tile_of_b(&mut self, warp: &mut Warp, product: &Wgmma) -> Result<Vec<f64>> {
        let n = product.n;
        let bits_of = self.of_lane(warp, product.b, 0)?;
        let descriptor = Descriptor::new(bits_of).map_err(|problem| (problem, 0))?;
        let mut bits = vec![0; 16 * n];
        if product.transposed[1] {
            let places = (0..2 * n as u64).map(|i| descriptor.piece(true, i / 16, i % 16));
            self.pieces(warp, places, |i, piece| {
                bits[i % 16 * n + i / 16 * 8..][..8].copy_from_slice(&piece);
            })?;
        } else {
            let places = (0..2 * n as u64).map(|i| descriptor.piece(false, i / 2, i % 2));
            self.pieces(warp, places, |i, piece| {
                for (j, element) in piece.into_iter().enumerate() {
                    bits[(i % 2 * 8 + j) * n + i / 2] = element;
                }
            })?;
        }
        let mut tile = vec![0.0; 16 * n];
        matrix::decode(product.element, &bits, &mut tile);
        let sign = if product.negate[0] != product.negate[1] { -1.0 } else { 1.0 };
        Ok(tile.into_iter().map(|x| sign * f64::from(x)).collect())
    }

    /// Adds the product to the registers of D.
    fn sums(
        &mut self,
        warp: &mut Warp,
        product: &Wgmma,
        add: bool,
        of_d: &[u32],
        a: &[f32],
        b: &[f64],
    ) -> Result<()> {
        let n = product.n;
        let mut sums = vec![0.0; n];
        let mut halves = vec![[0u64; LANES]; if product.to == Type::F16 { of_d.len() } else { 0 }];
        for row in 0..16 {
            sums.fill(0.0);
            for (a, b) in a[row * 16..(row + 1) * 16].iter().zip(b.chunks(n)) {
                let a = f64::from(*a);
                sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
            }
            for (column, sum) in sums.iter().enumerate() {
                let lane = row % 8 * 4 + column % 8 / 2;
                let i = column / 8 * 4 + row / 8 * 2 + column % 2;
                let (register, shift) = match product.to {
                    Type::F16 => (i / 2, 16 * (i as u32 % 2)),
                    _ => (i, 0),
                };
                let r = of_d[register];
                // The registers already hold what another product leaves.
                let busy = warp.begun.as_ref().is_some_and(|b| b.busy[r as usize] & WRITES != 0);
                if add && !busy && *warp.defined(r) >> lane & 1 == 0 {
                    let register = self.kernel.registers[r as usize].name.clone();
                    return Err((Problem::Undefined { register }, lane));
                }
                let old = warp.raw(r)[lane] >> shift;
                let old = if add { float::decode(product.to, old) } else { 0.0 };
                let sum = float::encode(product.to, sum + old, 0.0, Rounding::Nearest);
                match product.to {
                    Type::F16 => halves[register][lane] |= sum << shift,
                    _ => warp.raw(r)[lane] = sum,
                }
            }
        }
        for (register, values) in of_d.iter().zip(halves) {
            *warp.raw(*register) = values;
        }
        Ok(())
    }

    /// Frees the registers of all products except those of the last `pending` groups.
    pub(super) fn end_products(&mut self, warp: &mut Warp, pending: usize) {
        let Some(begun) = &mut warp.begun else { return };
        let mut done = Vec::new();
        while begun.groups.len() > pending {
            done.extend(begun.groups.pop_front().into_iter().flatten());
        }
        let left: usize = begun.open.len() + begun.groups.iter().map(Vec::len).sum::<usize>();
        let agent = (PRODUCTS + warp.number) as usize;
        warp.clocks[agent] = warp.clocks[agent].max(begun.products - left as u32);
        let mut written = Vec::new();
        for r in done.iter().flatten() {
            if begun.busy[*r as usize] & WRITES != 0 {
                written.push(*r);
            }
            begun.busy[*r as usize] = 0;
        }
        // Registers that a later product uses too stay busy.
        let later: Vec<u32> =
            begun.groups.iter().flatten().chain(&begun.open).flatten().copied().collect();
        for r in later {
            let was_written = written.contains(&r);
            begun.busy[r as usize] =
                if was_written { WRITES } else { begun.busy[r as usize].max(1) };
            written.retain(|other| *other != r);
        }
        for r in written {
            *warp.defined(r) = u32::MAX;
        }
    }
}
