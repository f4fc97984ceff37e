//! The order of pairs in an epoch.

use super::pairs::Pairs;
use crate::random::{Draws, Purpose};

/// The pairs of an epoch in their order. Each corpus contributes the number of its pairs times its
/// weight, and no pair a second time before all others, also from epoch to epoch: at weight 1 every
/// epoch has each pair once, at weight 0.5 every second epoch.
pub(super) fn epoch(pairs: &Pairs, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order = Vec::new();
    for (number, corpus) in pairs.corpora.iter().enumerate() {
        let count = corpus.counts.kept as u64;
        let share = ((count as f64 * corpus.weight).round() as u64).max(1);
        // A corpus repeats in rounds, each of which has all of its pairs; an epoch is a range of
        // them.
        let mut at = epoch.wrapping_mul(share);
        let mut left = share;
        while left > 0 {
            let (round, start) = (at / count, at % count);
            let taken = left.min(count - start);
            let mut all: Vec<usize> = (0..count as usize).map(|pair| corpus.first + pair).collect();
            // A complete round has every pair: nothing to draw.
            if taken < count {
                let place = [number as u64, round];
                Draws::new(seed, Purpose::Corpus, place).shuffle(&mut all);
            }
            order.extend_from_slice(&all[start as usize..(start + taken) as usize]);
            at = at.wrapping_add(taken);
            left -= taken;
        }
    }
    Draws::new(seed, Purpose::Epoch, [epoch, 0]).shuffle(&mut order);
    order
}
