//! The counter-based random numbers of every backend: Philox4x32-10.
//!
//! Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A number
//! depends on seed, step, stream and position alone, so a draw is the same on every backend and any
//! number of threads.

/// Four random words for a counter and a key: ten rounds.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let wide = |multiplier: u32, word: u32| {
            let product = u64::from(multiplier) * u64::from(word);
            ((product >> 32) as u32, product as u32)
        };
        let (high_0, low_0) = wide(MULTIPLIER[0], counter[0]);
        let (high_1, low_1) = wide(MULTIPLIER[1], counter[2]);
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
    }
    counter
}

/// The uniform number in [0, 1) at `position` of a draw: 24 bits, so that every value is exact in
/// f32. `key` is what [`crate::op::Op::Random`] takes: seed (low, high), step.
pub fn uniform(key: [i32; 3], stream: u32, position: usize) -> f32 {
    let block = (position / 4) as u64;
    let counter = [block as u32, (block >> 32) as u32, key[2] as u32, stream];
    let words = philox4x32(counter, [key[0] as u32, key[1] as u32]);
    (words[position % 4] >> 8) as f32 * (1.0 / 16_777_216.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with the reference implementation (Random123, kat_vectors).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
