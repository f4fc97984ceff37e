//! What lies between the reader of sources and the workers: a queue of bounded length.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tfm_model::decoding::{Arrival, Request};

/// How many sentences may have been read and not yet been taken by the consumer. Enough for the workers
/// never to want, few enough for a file of any length to be translated in the same memory.
const WINDOW: usize = 4096;

/// How long a worker waits before it looks whether the others are still well.
const PATIENCE: Duration = Duration::from_millis(100);

/// Sources on their way from one reader to many workers.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    /// How many results the consumer has taken.
    delivered: usize,
    /// No more sources will come.
    closed: bool,
    /// The consumer has gone: nothing more is wanted.
    stopped: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until sentence number `id` is near enough to what the consumer has taken. Whether anybody
    /// still wants it.
    pub(super) fn wait_for_room(&self, id: usize) -> bool {
        let mut state = self.lock();
        while !state.stopped && id >= state.delivered + WINDOW {
            state = self.wait(state);
        }
        !state.stopped
    }

    /// Adds a source.
    pub(super) fn push(&self, request: Request) {
        self.lock().waiting.push_back(request);
        self.changed.notify_all();
    }

    /// The next source, for a worker that may `wait` for one or has something else to do.
    pub(super) fn take(&self, wait: bool) -> Arrival {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Arrival::End;
            }
            if let Some(request) = state.waiting.pop_front() {
                return Arrival::Request(request);
            }
            if state.closed {
                return Arrival::End;
            }
            if !wait {
                return Arrival::NothingYet;
            }
            let waited = self.changed.wait_timeout(state, PATIENCE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return Arrival::NothingYet; // see `Generator::generate`
            }
            state = woken;
        }
    }

    /// No more sources will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The consumer has taken one more result.
    pub(super) fn delivered(&self) {
        self.lock().delivered += 1;
        self.changed.notify_all();
    }

    /// The consumer has gone.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}
