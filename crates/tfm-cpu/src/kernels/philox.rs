//! The random numbers of [`tfm_core::philox`]. Many are made at a time, with the same bits.

use super::simd::{Isa, Kernel, Simd};

/// Counters that are computed together. Each makes four numbers.
const COUNTERS: usize = 16;
/// Numbers that are made together.
pub(super) const BATCH: usize = 4 * COUNTERS;

/// `out[i] = philox::uniform(key, stream, first_position + i)`.
pub fn fill_uniform(isa: Isa, key: [i32; 3], stream: u32, first_position: u64, out: &mut [f32]) {
    isa.run(Fill { key, stream, first_position, out });
}

struct Fill<'a> {
    key: [i32; 3],
    stream: u32,
    first_position: u64,
    out: &'a mut [f32],
}

impl Kernel for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        uniform(s, self.key, self.stream, self.first_position, self.out);
    }
}

/// [`fill_uniform`] for use in a kernel.
#[inline(always)]
pub(super) fn uniform<S: Simd>(
    _: S,
    key: [i32; 3],
    stream: u32,
    first_position: u64,
    out: &mut [f32],
) {
    let keys = round_keys(key);
    let constant = [key[2] as u32 as u64, u64::from(stream)];
    let (mut block, skipped) = (first_position / 4, (first_position % 4) as usize);
    let mut numbers = [0.0; BATCH];
    let mut out = out;
    if skipped > 0 || out.len() < BATCH {
        batch(&keys, constant, block, &mut numbers);
        let count = out.len().min(BATCH - skipped);
        let (now, later) = out.split_at_mut(count);
        now.copy_from_slice(&numbers[skipped..skipped + count]);
        // What the last counter has left is made again.
        block += ((skipped + count) / 4) as u64;
        out = later;
    }
    let mut whole = out.chunks_exact_mut(BATCH);
    for out in &mut whole {
        batch(&keys, constant, block, &mut numbers);
        out.copy_from_slice(&numbers);
        block += COUNTERS as u64;
    }
    let rest = whole.into_remainder();
    if !rest.is_empty() {
        batch(&keys, constant, block, &mut numbers);
        rest.copy_from_slice(&numbers[..rest.len()]);
    }
}

/// The two key words of each round.
#[inline(always)]
fn round_keys(key: [i32; 3]) -> [[u64; 2]; 10] {
    let (mut keys, mut words) = ([[0; 2]; 10], [key[0] as u32, key[1] as u32]);
    for round in &mut keys {
        *round = words.map(u64::from);
        words = [words[0].wrapping_add(0x9E37_79B9), words[1].wrapping_add(0xBB67_AE85)];
    }
    keys
}

/// The numbers of [`COUNTERS`] blocks. The words are the lower halves of `u64`s, as vector
/// multiplication requires; the upper halves may hold anything.
#[inline(always)]
fn batch(keys: &[[u64; 2]; 10], [step, stream]: [u64; 2], first: u64, out: &mut [f32; BATCH]) {
    const LOW: u64 = 0xFFFF_FFFF;
    let mut words = [[0u32; 4]; COUNTERS];
    for (block, words) in (0..).zip(&mut words) {
        let block = first.wrapping_add(block);
        let (mut a, mut b, mut c, mut d) = (block, block >> 32, step, stream);
        for key in keys {
            let (x, y) = ((a & LOW) * 0xD251_1F53, (c & LOW) * 0xCD9E_8D57);
            (a, b, c, d) = ((y >> 32) ^ b ^ key[0], y, (x >> 32) ^ d ^ key[1], x);
        }
        *words = [a as u32, b as u32, c as u32, d as u32];
    }
    for (x, word) in out.iter_mut().zip(words.as_flattened()) {
        // 24 bits are positive as a signed number too, so a signed conversion is right.
        *x = (word >> 8) as i32 as f32 * (1.0 / 16_777_216.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::assert_same_bits;

    #[test]
    fn the_same_bits_as_one_by_one() {
        let cases = [(0, 0), (0, 1), (1, 3), (2, 64), (7, 400), (4 * 0xFFFF_FFF0 + 3, 131)];
        for (first, len) in cases.into_iter().chain([(5, 63), (61, 2), (0, 1000), (3, 61)]) {
            for (key, stream) in [([1, -2, 3], 4), ([i32::MIN, i32::MAX, -1], u32::MAX)] {
                let want: Vec<f32> = (0..len)
                    .map(|i| tfm_core::philox::uniform(key, stream, first as usize + i))
                    .collect();
                for isa in Isa::available() {
                    let mut out = vec![9.0; len];
                    fill_uniform(isa, key, stream, first, &mut out);
                    assert_same_bits(&out, &want);
                }
            }
        }
    }
}
