//! The endless stream of training batches.

use super::order;
use super::pairs::Pairs;
use super::window::{Window, cut};
use crate::config::Batching;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A position in the stream: the batch that comes next.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The window of the epoch.
    pub window: u64,
    /// The batch of the window.
    pub batch: u64,
}

/// Concatenated sequences, as graphs take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// The tokens of all, `[T]`.
    pub tokens: Vec<i32>,
    /// Where each sequence begins and the last one ends, `[n + 1]`.
    pub offsets: Vec<i32>,
}

/// The pairs of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The sources.
    pub sources: Sequences,
    /// The targets. Each ends with the end token; none begins with the decoder's start token.
    pub targets: Sequences,
    /// The numbers of the pairs in [`Pairs`].
    pub pairs: Vec<usize>,
    /// Its own position.
    pub at: Position,
    /// The position after it, where a training resumes that has learned from it.
    pub next: Position,
}

/// The stream of batches from a position on. Its order depends only on the pairs, the seed and the
/// batching, so a stream that starts at a position continues as if it had never stopped.
pub struct Stream {
    pairs: Arc<Pairs>,
    batching: Batching,
    seed: u64,
    next: Position,
    /// The epoch's order, and the window that is being read.
    epoch: Option<(u64, Vec<usize>)>,
    window: Option<Window>,
}

impl Sequences {
    pub(super) fn new() -> Self {
        Sequences { tokens: Vec::new(), offsets: vec![0] }
    }

    pub(super) fn push(&mut self, append: impl FnOnce(&mut Vec<i32>)) {
        append(&mut self.tokens);
        // A batch has at most 2^24 tokens.
        self.offsets.push(self.tokens.len() as i32);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequences, one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[i32]> {
        self.offsets.windows(2).map(|ends| &self.tokens[ends[0] as usize..ends[1] as usize])
    }
}

impl Batch {
    /// Tokens, source and target together.
    pub fn tokens(&self) -> usize {
        self.sources.tokens.len() + self.targets.tokens.len()
    }

    /// Whether it is the last batch of its epoch.
    pub fn ends_epoch(&self) -> bool {
        self.next.epoch != self.at.epoch
    }
}

impl Stream {
    /// The stream from `start` on, which is [`Position::default`] for a new training.
    ///
    /// # Errors
    /// [`Error::BatchTooSmall`] if a pair has more tokens than `batching` allows, and
    /// [`Error::Position`] if there is no such position.
    pub fn new(pairs: Arc<Pairs>, batching: Batching, seed: u64, start: Position) -> Result<Self> {
        check_limit(&pairs, batching.tokens)?;
        let stream = Stream { pairs, batching, seed, next: start, epoch: None, window: None };
        stream.started(start)
    }

    fn started(mut self, start: Position) -> Result<Self> {
        let found = self.enter()?;
        if !found {
            let Position { epoch, window, batch } = start;
            return Err(Error::Position { epoch, window, batch });
        }
        Ok(self)
    }

    /// The position of the next batch.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Prepares the window of the next batch, and returns whether there is such a batch.
    fn enter(&mut self) -> Result<bool> {
        let Position { epoch, window, batch } = self.next;
        if self.epoch.as_ref().is_none_or(|(made, _)| *made != epoch) {
            // Free the old window before the new one is made.
            self.epoch = None;
            self.epoch = Some((epoch, order::epoch(&self.pairs, self.seed, epoch)));
        }
        let order = self.epoch.as_ref().map_or(&[][..], |(_, order)| order);
        let first = usize::try_from(window).ok().and_then(|w| w.checked_mul(self.batching.window));
        let Some(first) = first.filter(|&first| first < order.len()) else { return Ok(false) };
        let stretch = &order[first..order.len().min(first.saturating_add(self.batching.window))];
        if self.window.is_none() {
            let made =
                Window::new(&self.pairs, stretch, self.batching, self.seed, self.next, first)?;
            self.window = Some(made);
        }
        Ok(self.window.as_ref().is_some_and(|window| batch < window.len() as u64))
    }

    /// The position after the next batch.
    fn after_next(&self, batches: usize) -> Position {
        let Position { epoch, window, batch } = self.next;
        let pairs = self.epoch.as_ref().map_or(0, |(_, order)| order.len());
        let windows = pairs.div_ceil(self.batching.window) as u64;
        if batch + 1 < batches as u64 {
            Position { batch: batch + 1, ..self.next }
        } else if window + 1 < windows {
            Position { epoch, window: window + 1, batch: 0 }
        } else {
            Position { epoch: epoch.wrapping_add(1), window: 0, batch: 0 }
        }
    }

    /// The next batch.
    ///
    /// # Errors
    /// [`Error::Encode`] where texts are encoded again.
    pub fn next_batch(&mut self) -> Result<Batch> {
        self.enter()?;
        let at = self.next;
        let Some(window) = &self.window else {
            let Position { epoch, window, batch } = at;
            return Err(Error::Position { epoch, window, batch });
        };
        let next = self.after_next(window.len());
        let batch = window.batch(&self.pairs, at.batch as usize, at, next);
        if (next.epoch, next.window) != (at.epoch, at.window) {
            self.window = None;
        }
        self.next = next;
        Ok(batch)
    }
}

impl Pairs {
    /// All pairs once, in their order, in batches of at most `limit` tokens: for validation.
    ///
    /// # Errors
    /// [`Error::BatchTooSmall`] if a pair has more tokens.
    pub fn in_order(&self, limit: usize) -> Result<impl ExactSizeIterator<Item = Batch> + '_> {
        check_limit(self, limit)?;
        let batches = cut((0..self.len()).map(|pair| self.tokens(pair)), limit);
        let place = |batch: usize| Position { batch: batch as u64, ..Position::default() };
        Ok(batches.into_iter().enumerate().map(move |(number, range)| {
            let (mut sources, mut targets) = (Sequences::new(), Sequences::new());
            for pair in range.clone() {
                sources.push(|tokens| self.ids.append(2 * pair, tokens));
                targets.push(|tokens| self.ids.append(2 * pair + 1, tokens));
            }
            let (at, next) = (place(number), place(number + 1));
            Batch { sources, targets, pairs: range.collect(), at, next }
        }))
    }
}

fn check_limit(pairs: &Pairs, limit: usize) -> Result<()> {
    match pairs.longest() {
        tokens if tokens > limit => Err(Error::BatchTooSmall { limit, tokens }),
        _ => Ok(()),
    }
}
