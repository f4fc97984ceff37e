//! The endless row of batches that a training learns from.

use super::order;
use super::pairs::Pairs;
use super::window::{Window, cut};
use crate::config::Batching;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A place in the row of batches: the batch that comes next.
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

/// Sequences one after the other, as graphs take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// The tokens of all, `[T]`.
    pub tokens: Vec<i32>,
    /// Where each begins and the last ends, `[n + 1]`.
    pub offsets: Vec<i32>,
}

/// Pairs that are computed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The sources.
    pub sources: Sequences,
    /// The targets; the end token is each one's last, the decoder's start token is not there.
    pub targets: Sequences,
    /// The numbers of the pairs in [`Pairs`].
    pub pairs: Vec<usize>,
    /// Its own place.
    pub at: Position,
    /// The place after it: where a training goes on that has learnt from it.
    pub next: Position,
}

/// The row of batches, from a place on. Its order follows from the pairs, the seed and the batching alone:
/// from a place on it goes on as if it had never stopped.
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each by itself.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[i32]> {
        self.offsets.windows(2).map(|ends| &self.tokens[ends[0] as usize..ends[1] as usize])
    }
}

impl Batch {
    /// Tokens, source and target together.
    pub fn tokens(&self) -> usize {
        self.sources.tokens.len() + self.targets.tokens.len()
    }

    /// Whether it is the last of its epoch.
    pub fn ends_epoch(&self) -> bool {
        self.next.epoch != self.at.epoch
    }
}

impl Stream {
    /// The row from `start` on, which is [`Position::default`] for a new training.
    ///
    /// # Errors
    /// [`Error::BatchTooSmall`] if a pair has more tokens than `batching` allows, and [`Error::Position`] if
    /// there is no such place.
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

    /// Where it goes on.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Makes the window of the next batch. Answers whether there is such a batch.
    fn enter(&mut self) -> Result<bool> {
        let Position { epoch, window, batch } = self.next;
        if self.epoch.as_ref().is_none_or(|(made, _)| *made != epoch) {
            // The old one goes before the new one comes.
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

    /// The place after the one that comes next.
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
    /// [`Error::Encode`] where texts are encoded anew.
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
