//! What a caller asks of the scheduler, and how it hears of the answer.

use super::stats::Counters;
use crate::error::{Error, Result};
use crate::generation::{GenerationOptions, Hypothesis, Settled};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// A source to decode. Its options, its end and its faults are its own: no other request notices.
pub struct Request {
    /// The source's tokens, with what the model expects around them.
    pub source: Vec<u32>,
    /// How to generate its target.
    pub options: Arc<GenerationOptions>,
    /// Which of the requests with the same seed this is: with the seed, it decides what is drawn.
    pub number: u64,
    /// When nobody waits for it any more. A request that is not done by then ends with
    /// [`Error::DeadlinePassed`](crate::Error::DeadlinePassed).
    pub deadline: Option<Instant>,
    /// Who hears of its tokens and of its end.
    pub sink: Box<dyn Sink>,
}

impl Request {
    /// A request without a deadline, the first of its seed.
    pub fn new(
        source: Vec<u32>,
        options: &Arc<GenerationOptions>,
        sink: impl Sink + 'static,
    ) -> Self {
        Request {
            source,
            options: options.clone(),
            number: 0,
            deadline: None,
            sink: Box::new(sink),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("source", &self.source)
            .field("options", &self.options)
            .field("number", &self.number)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Whether a request is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It is.
    Continue,
    /// Nobody wants it: it ends before the next step with
    /// [`Error::Cancelled`](crate::Error::Cancelled), and its memory is free for others.
    Cancel,
}

/// The receiver of one request's results. A worker calls it between steps, on its own thread: the
/// sink must not wait for another request. If it panics, the request is cancelled.
pub trait Sink: Send {
    /// Takes the tokens that were settled since the last call: no later step can change them.
    /// Under beam search they are the part that all hypotheses which may still win have in common.
    /// The worker calls it once before the request is encoded and after each step, also without
    /// tokens, so that a request can be cancelled at any time.
    fn settled(&mut self, tokens: &[Settled]) -> Flow {
        let _ = tokens;
        Flow::Continue
    }

    /// Takes the result, the best hypothesis first, or what went wrong. It is called exactly once,
    /// also after a cancel, a failure or the end of the scheduler.
    fn end(self: Box<Self>, outcome: Result<Vec<Hypothesis>>);
}

/// A function that takes the outcome is a sink that waits for the end.
impl<F: FnOnce(Result<Vec<Hypothesis>>) + Send> Sink for F {
    fn end(self: Box<Self>, outcome: Result<Vec<Hypothesis>>) {
        self(outcome);
    }
}

/// The sink of a request that was taken. It hears of the end exactly once: if nothing else ends the
/// request, dropping this does.
pub(super) struct Caller {
    sink: Option<Box<dyn Sink>>,
    counters: Arc<Counters>,
}

impl Caller {
    pub(super) fn new(sink: Box<dyn Sink>, counters: Arc<Counters>) -> Self {
        Caller { sink: Some(sink), counters }
    }

    /// Hands tokens over.
    ///
    /// # Errors
    /// [`Error::Cancelled`]: the request is not wanted any more.
    pub(super) fn settled(&mut self, tokens: &[Settled]) -> Result<()> {
        let Some(sink) = &mut self.sink else { return Err(Error::Cancelled) };
        // The sink is the caller's code: its panic is no other request's concern.
        match catch_unwind(AssertUnwindSafe(|| sink.settled(tokens))) {
            Ok(Flow::Continue) => Ok(()),
            Ok(Flow::Cancel) | Err(_) => Err(Error::Cancelled),
        }
    }

    /// Hands the outcome over.
    pub(super) fn end(mut self, outcome: Result<Vec<Hypothesis>>) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Result<Vec<Hypothesis>>) {
        if let Some(sink) = self.sink.take() {
            self.counters.count(&outcome);
            let _ = catch_unwind(AssertUnwindSafe(|| sink.end(outcome)));
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.finish(Err(Error::WorkerFailed));
    }
}

/// A request that the scheduler did not take. The caller has it back; its sink was not called.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Rejected {
    /// The request.
    pub request: Request,
    /// Why.
    pub reason: Rejection,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// As many requests wait as may.
    #[error("{waiting} requests are waiting, as many as may; ask again later")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// The scheduler was closed, or its workers have failed.
    #[error(
        "the scheduler takes no more requests: it was closed, or all of its workers have failed"
    )]
    Closed,
    /// The process was forked after the scheduler was made. A forked process has no workers.
    #[error(
        "the process was forked after its translator was made, and a fork has no worker threads; \
         make the translator in the process that uses it"
    )]
    Forked,
}
