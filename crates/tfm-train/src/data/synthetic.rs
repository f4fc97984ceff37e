//! Tasks with letters that need no data: what a Transformer must be able to learn.

use crate::config::{Synthetic, Task};
use crate::random::{Draws, Purpose};

impl Synthetic {
    /// The pair of texts with this number, counted from 0: one word of letters. It depends only on
    /// the description and the number.
    pub fn pair(&self, index: usize) -> (String, String) {
        let mut draws = Draws::new(self.seed, Purpose::Synthetic, [index as u64, 0]);
        let lengths = self.maximum_length.saturating_sub(self.minimum_length) + 1;
        let length = self.minimum_length + draws.below(lengths as u64) as usize;
        let symbols = self.symbols.clamp(1, 26) as u64;
        let source: Vec<u8> = (0..length).map(|_| b'a' + draws.below(symbols) as u8).collect();
        let mut target = source.clone();
        match self.task {
            Task::Copy => {}
            Task::Reverse => target.reverse(),
            Task::Sort => target.sort_unstable(),
        }
        (text(&source), text(&target))
    }
}

/// Letters as a text. A vocabulary with room for the letters only makes each a token.
fn text(letters: &[u8]) -> String {
    letters.iter().map(|&letter| char::from(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_what_the_task_says() {
        for task in [Task::Copy, Task::Reverse, Task::Sort] {
            let task = Synthetic {
                task,
                symbols: 5,
                minimum_length: 2,
                maximum_length: 9,
                pairs: 300,
                seed: 3,
            };
            let mut lengths = std::collections::BTreeSet::new();
            for index in 0..task.pairs {
                let (source, target) = task.pair(index);
                assert_eq!((source.clone(), target.clone()), task.pair(index));
                let source: Vec<char> = source.chars().collect();
                let mut expected = source.clone();
                match task.task {
                    Task::Copy => {}
                    Task::Reverse => expected.reverse(),
                    Task::Sort => expected.sort(),
                }
                assert_eq!(target.chars().collect::<Vec<_>>(), expected);
                assert!(source.iter().all(|letter| ('a'..='e').contains(letter)));
                lengths.insert(source.len());
            }
            assert_eq!(lengths, (2..=9).collect());
            assert_ne!(task.pair(0), Synthetic { seed: 4, ..task }.pair(0));
        }
    }
}
