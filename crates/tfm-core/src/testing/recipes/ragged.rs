//! Ragged batches: sequences of queries, and where the keys of each lie.

use crate::testing::Data;
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

/// Which queries and keys belong together in a ragged batch.
#[derive(Debug, Clone)]
pub struct Ragged {
    /// The queries of each sequence.
    pub queries: Vec<usize>,
    /// First row and number of each sequence's keys.
    pub keys: Vec<(usize, usize)>,
    /// Rows of keys and values in all, also those that no sequence has.
    pub rows: usize,
}

impl Ragged {
    /// Up to `sequences` sequences of these lengths. Keys lie in the order of the sequences or not,
    /// with gaps between, and some sequences share theirs.
    pub fn strategy(
        sequences: usize,
        queries: BoxedStrategy<usize>,
        keys: BoxedStrategy<usize>,
    ) -> BoxedStrategy<Ragged> {
        let lengths = (queries, keys);
        (proptest::collection::vec(lengths, 0..=sequences), any::<u64>().no_shrink())
            .prop_map(|(lengths, seed)| Ragged::new(&lengths, &mut Data::new(seed)))
            .boxed()
    }

    /// Sequences of so many queries and keys.
    pub(super) fn new(lengths: &[(usize, usize)], data: &mut Data) -> Ragged {
        let (mut rows, mut keys): (usize, Vec<(usize, usize)>) = (data.below(3), Vec::new());
        for &(_, length) in lengths {
            let shared = data.once_in(4).then(|| keys.last().copied()).flatten();
            keys.push(shared.unwrap_or((rows, length)));
            if shared.is_none() {
                rows += length + if data.once_in(3) { data.below(3) } else { 0 };
            }
        }
        if data.once_in(3) {
            let order = data.distinct(keys.len(), keys.len());
            keys = order.into_iter().map(|i| keys[i as usize]).collect();
        }
        Ragged { queries: lengths.iter().map(|&(queries, _)| queries).collect(), keys, rows }
    }

    /// Where each sequence's queries start, and where the last ends.
    pub fn offsets(&self) -> Vec<i32> {
        let mut end = 0;
        let ends = self.queries.iter().map(|&length| {
            end += length as i32;
            end
        });
        [0].into_iter().chain(ends).collect()
    }

    /// Start and length of each sequence's keys.
    pub fn ranges(&self) -> Vec<i32> {
        self.keys.iter().flat_map(|&(start, length)| [start as i32, length as i32]).collect()
    }

    /// All queries.
    pub fn query_rows(&self) -> usize {
        self.queries.iter().sum()
    }
}
