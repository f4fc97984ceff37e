//! What a scheduler is doing and has done, in numbers.

use crate::error::{Error, Result};
use crate::generation::Hypothesis;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A scheduler at one moment. The numbers are read one after the other while workers go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Requests that are being decoded.
    pub running: usize,
    /// The hypotheses of those: rows of the next steps.
    pub hypotheses: usize,
    /// Bytes of keys and values that those hold, of all workers.
    pub cache_bytes: usize,
    /// Requests that have ended with a result.
    pub finished: u64,
    /// Requests that were cancelled or whose deadline has passed.
    pub cancelled: u64,
    /// Requests that have ended with another error.
    pub failed: u64,
    /// Tokens of the results.
    pub generated_tokens: u64,
    /// Steps of decoding, each of many hypotheses.
    pub steps: u64,
}

/// The numbers as workers count them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) running: AtomicUsize,
    pub(super) hypotheses: AtomicUsize,
    pub(super) cache_bytes: AtomicUsize,
    pub(super) finished: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) generated_tokens: AtomicU64,
    pub(super) steps: AtomicU64,
}

impl Counters {
    /// Counts the end of a request.
    pub(super) fn count(&self, outcome: &Result<Vec<Hypothesis>>) {
        let counter = match outcome {
            Ok(hypotheses) => {
                let tokens = hypotheses.iter().map(|hypothesis| hypothesis.tokens.len() as u64);
                self.generated_tokens.fetch_add(tokens.sum(), Ordering::Relaxed);
                &self.finished
            }
            Err(Error::Cancelled | Error::DeadlinePassed) => &self.cancelled,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, waiting: usize) -> Stats {
        Stats {
            waiting,
            running: self.running.load(Ordering::Relaxed),
            hypotheses: self.hypotheses.load(Ordering::Relaxed),
            cache_bytes: self.cache_bytes.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            generated_tokens: self.generated_tokens.load(Ordering::Relaxed),
            steps: self.steps.load(Ordering::Relaxed),
        }
    }
}

/// One worker's part of the numbers that go up and down.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) running: usize,
    pub(super) hypotheses: usize,
    pub(super) cache_bytes: usize,
}

impl Share {
    /// Replaces what the worker counted before by what it has now.
    pub(super) fn replace(&mut self, counters: &Counters, now: Share) {
        let change = |counter: &AtomicUsize, before: usize, now: usize| {
            counter.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        };
        change(&counters.running, self.running, now.running);
        change(&counters.hypotheses, self.hypotheses, now.hypotheses);
        change(&counters.cache_bytes, self.cache_bytes, now.cache_bytes);
        *self = now;
    }
}
