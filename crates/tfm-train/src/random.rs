//! Random numbers that depend on a seed and a purpose, not on earlier draws.

use tfm_core::philox::philox4x32;

/// The purpose of random numbers: draws for different purposes are independent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// The order of a corpus.
    Corpus = 1,
    /// The order of an epoch.
    Epoch = 2,
    /// The order of the batches in a window.
    Window = 3,
    /// The segmentation of a text.
    Segmentation = 4,
    /// A pair of a made-up task.
    Synthetic = 5,
}

/// A sequence of random numbers.
pub(crate) struct Draws {
    key: [u32; 2],
    stream: [u32; 2],
    next: u64,
}

impl Draws {
    /// The numbers for a purpose at a place, such as (epoch, window).
    pub(crate) fn new(seed: u64, purpose: Purpose, place: [u64; 2]) -> Self {
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let [low, high] = halves(place[0]);
        let [a, b, c, d] = philox4x32([low, high, purpose as u32, 0], halves(seed));
        let [low, high] = halves(place[1]);
        let [a, b, c, d] = philox4x32([low, high, a, b], [c, d]);
        Draws { key: [a, b], stream: [c, d], next: 0 }
    }

    pub(crate) fn word(&mut self) -> u64 {
        let block = self.next / 2;
        let [a, b] = self.stream;
        let words = philox4x32([block as u32, (block >> 32) as u32, a, b], self.key);
        let half =
            if self.next.is_multiple_of(2) { [words[0], words[1]] } else { [words[2], words[3]] };
        self.next += 1;
        u64::from(half[0]) | u64::from(half[1]) << 32
    }

    /// A uniform number below `bound` (Lemire 2019). `bound` is above 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // So many of the 2^64 words are left over when each result gets an equal share of them.
        let left_over = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.word()) * u128::from(bound);
            if wide as u64 >= left_over {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Shuffles a list uniformly (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own_numbers() {
        let first = |seed, purpose, place| Draws::new(seed, purpose, place).word();
        let mut seen = std::collections::HashSet::new();
        for seed in [0, 1, 1 << 32] {
            for purpose in [Purpose::Corpus, Purpose::Epoch, Purpose::Window] {
                for place in [[0, 0], [0, 1], [1, 0], [1 << 32, 0], [0, 1 << 32]] {
                    assert!(seen.insert(first(seed, purpose, place)));
                }
            }
        }
        assert_eq!(first(1, Purpose::Epoch, [2, 3]), first(1, Purpose::Epoch, [2, 3]));
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut draws = Draws::new(7, Purpose::Epoch, [0, 0]);
        let mut counts = [0u32; 6];
        (0..60_000).for_each(|_| counts[draws.below(6) as usize] += 1);
        // Five standard deviations.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 460), "{counts:?}");
        assert_eq!(draws.below(1), 0);
    }

    #[test]
    fn a_shuffle_keeps_all() {
        let mut list: Vec<_> = (0..1000).collect();
        Draws::new(1, Purpose::Epoch, [0, 0]).shuffle(&mut list);
        assert_ne!(list, (0..1000).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..1000).collect::<Vec<_>>());
    }
}
