//! Which tokens no later step can change.

use super::history::{History, Node};

/// A token that every hypothesis has which may yet become the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settled {
    /// The token.
    pub token: u32,
    /// Its log-probability; 0 if it was forced.
    pub log_probability: f32,
}

/// How far a search has settled.
#[derive(Debug, Clone)]
pub(super) struct Settling {
    /// How many are settled.
    length: usize,
    /// Those found last.
    found: Vec<Settled>,
    /// Scratch: hypotheses that are longer than the level looked at, the longest last.
    longer: Vec<(usize, Node)>,
    /// Scratch: the different ancestors at that level.
    ancestors: Vec<Node>,
}

impl Settling {
    pub(super) fn new() -> Self {
        Settling { length: 0, found: Vec::new(), longer: Vec::new(), ancestors: Vec::new() }
    }

    /// Settles what `hypotheses` (length and last token of each that may become the result) have in
    /// common: the path to their deepest common ancestor. They must be descendants of those shown
    /// before. Returns what is settled now and was not before.
    ///
    /// The walk back goes level by level, and no further than to what is settled already.
    pub(super) fn settle(
        &mut self,
        history: &History,
        hypotheses: impl Iterator<Item = (usize, Node)>,
    ) -> &[Settled] {
        self.found.clear();
        self.longer.clear();
        self.longer.extend(hypotheses);
        self.longer.sort_unstable();
        self.ancestors.clear();
        let mut level = self.longer.last().map_or(0, |&(length, _)| length);
        while level > self.length {
            while self.longer.last().is_some_and(|&(length, _)| length == level) {
                self.ancestors.extend(self.longer.pop().map(|(_, node)| node));
            }
            self.ancestors.sort_unstable();
            self.ancestors.dedup();
            if let ([common], true) = (&self.ancestors[..], self.longer.is_empty()) {
                let path = history.back(*common).take(level - self.length);
                self.found.extend(path.map(|entry| Settled {
                    token: entry.token,
                    log_probability: entry.log_probability,
                }));
                self.found.reverse();
                self.length = level;
                break;
            }
            self.ancestors.iter_mut().for_each(|node| *node = history.parent(*node));
            level -= 1;
        }
        &self.found
    }
}
