//! How far the reading of a stream may be ahead of the consumer and of the workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many sentences may have been read and not yet been taken by the consumer: enough for a file
/// of any length to be translated in the same memory.
const WINDOW: usize = 4096;

/// What the reader, the sinks and the consumer of one stream know of each other.
pub(super) struct Window {
    state: Mutex<State>,
    changed: Condvar,
    /// The consumer has gone: nothing more is wanted. The sinks ask at every step.
    stopped: AtomicBool,
    /// How many sentences may be with the scheduler at a time: enough for its workers never to
    /// want, few enough for others who submit not to wait long behind them.
    submitted: usize,
}

#[derive(Default)]
struct State {
    /// How many sentences are with the scheduler.
    submitted: usize,
    /// How many results the consumer has taken.
    delivered: usize,
}

impl Window {
    /// A window of which so many sentences may be with the scheduler at a time.
    pub(super) fn new(submitted: usize) -> Self {
        Window {
            state: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            submitted: submitted.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until sentence number `id` may be read. Whether anybody still wants it.
    pub(super) fn wait_for_room(&self, id: usize) -> bool {
        let mut state = self.lock();
        while !self.is_stopped()
            && (id >= state.delivered + WINDOW || state.submitted >= self.submitted)
        {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !self.is_stopped()
    }

    /// A sentence goes to the scheduler.
    pub(super) fn submitted(&self) {
        self.lock().submitted += 1;
    }

    /// A sentence has come back from the scheduler.
    pub(super) fn ended(&self) {
        self.change(|state| state.submitted -= 1);
    }

    /// The consumer has taken one more result.
    pub(super) fn delivered(&self) {
        self.change(|state| state.delivered += 1);
    }

    /// The consumer has gone.
    pub(super) fn stop(&self) {
        self.change(|_| self.stopped.store(true, Ordering::Relaxed));
    }

    /// Whether it has.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
