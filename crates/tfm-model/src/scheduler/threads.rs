//! The threads that the workers of a scheduler share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads there are for all workers, and how many workers have work.
#[derive(Debug)]
pub(super) struct ThreadShare {
    threads: usize,
    busy: AtomicUsize,
}

impl ThreadShare {
    /// Threads for workers none of which has work yet.
    pub(super) fn new(threads: usize) -> Self {
        ThreadShare { threads, busy: AtomicUsize::new(0) }
    }

    /// Counts a worker among those that have work, for as long as the answer lives.
    pub(super) fn enter(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }
}

/// A worker that has work.
#[derive(Debug)]
pub(super) struct Busy(Arc<ThreadShare>);

impl Busy {
    /// How many threads it may use now.
    pub(super) fn threads(&self) -> usize {
        (self.0.threads / self.0.busy.load(Ordering::Relaxed).max(1)).max(1)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_works_alone_has_all_threads() {
        let share = Arc::new(ThreadShare::new(5));
        let first = share.enter();
        assert_eq!(first.threads(), 5);
        let second = share.enter();
        assert_eq!((first.threads(), second.threads()), (2, 2));
        drop(first);
        assert_eq!(second.threads(), 5);
        let all: Vec<Busy> = (0..9).map(|_| share.enter()).collect();
        assert_eq!(all[3].threads(), 1);
    }
}
