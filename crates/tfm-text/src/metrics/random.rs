//! Random numbers as NumPy's `default_rng(seed)` draws them, so that tests by chance agree with
//! sacreBLEU's.
//!
//! The generator is PCG64 (M. O'Neill, "PCG: a family of simple fast space-efficient statistically
//! good algorithms for random number generation", 2014). Numbers below a bound come from it without
//! a bias (D. Lemire, "Fast random integer generation in an interval", 2019).

/// How many words the seed is mixed into.
const POOL: usize = 4;

/// A generator.
pub(super) struct Random {
    state: u128,
    increment: u128,
    /// The upper half of the last 64 bits, if it is not used yet.
    half: Option<u32>,
    /// Bits for yes or no, and how many of them are not used yet.
    bits: (u32, u32),
}

/// A hash whose constant changes with each use.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn mix(&mut self, value: u32) -> u32 {
        let value = value ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let value = value.wrapping_mul(self.constant);
        value ^ (value >> 16)
    }
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
        let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(|word| hash.mix(word));
        for from in 0..POOL {
            for to in (0..POOL).filter(|&to| to != from) {
                let (left, right) = (pool[to], hash.mix(pool[from]));
                let mixed =
                    left.wrapping_mul(0xca01_f9dd).wrapping_sub(right.wrapping_mul(0x4973_f715));
                pool[to] = mixed ^ (mixed >> 16);
            }
        }
        let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
        let words: Vec<u128> =
            (0..2 * POOL).map(|index| u128::from(hash.mix(pool[index % POOL]))).collect();
        // Of each 64 bits the lower word comes first, of each 128 bits the upper half.
        let wide =
            |at: usize| words[at + 1] << 96 | words[at] << 64 | words[at + 3] << 32 | words[at + 2];
        let increment = wide(4) << 1 | 1;
        let mut random = Random { state: 0, increment, half: None, bits: (0, 0) };
        random.step();
        random.state = random.state.wrapping_add(wide(0));
        random.step();
        random
    }

    fn step(&mut self) {
        const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        let value = folded.rotate_right((self.state >> 122) as u32);
        self.half = Some((value >> 32) as u32);
        value as u32
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        if bound == 1 {
            return 0;
        }
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            // The lowest products are one too many for some numbers.
            if product as u32 >= bound.wrapping_neg() % bound {
                return (product >> 32) as u32;
            }
        }
    }

    /// Yes or no.
    pub(super) fn coin(&mut self) -> bool {
        if self.bits.1 == 0 {
            self.bits = (self.next_u32(), 32);
        }
        let (bits, left) = self.bits;
        self.bits = (bits >> 1, left - 1);
        bits & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn equal_to_numpy() {
        let mut random = Random::new(12345);
        let numbers: Vec<u32> = (0..10).map(|_| random.below(1000)).collect();
        assert_eq!(numbers, [699, 227, 788, 316, 204, 797, 642, 676, 988, 391]);
        let mut random = Random::new((1 << 40) + 7);
        let numbers: Vec<u32> = (0..4).map(|_| random.below(3_000_000_000)).collect();
        assert_eq!(numbers, [2489438675, 1828512392, 765915474, 51031264]);
        let mut random = Random::new(12345);
        let coins = (0..70).fold(0, |bits, place| bits | u128::from(random.coin()) << place);
        assert_eq!(coins, 0x1e3a32b18db2ffc19d);
    }
}
