//! Counting n-grams.

use std::{collections::HashMap, hash::Hash};

/// How often each n-gram occurs.
pub(super) type Counts<'s, T> = HashMap<&'s [T], u64>;

/// The n-grams of one order. A sequence shorter than `order` has none.
pub(super) fn count<T: Hash + Eq>(sequence: &[T], order: usize) -> Counts<'_, T> {
    let mut counts = Counts::new();
    for ngram in sequence.windows(order) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// How many n-grams of `hypothesis` are in `reference`, each at most as often as it is there.
pub(super) fn matches<T: Hash + Eq>(hypothesis: &Counts<'_, T>, reference: &Counts<'_, T>) -> u64 {
    hypothesis
        .iter()
        .filter_map(|(ngram, &count)| reference.get(ngram).map(|&limit| count.min(limit)))
        .sum()
}
