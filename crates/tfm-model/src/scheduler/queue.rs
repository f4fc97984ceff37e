//! The requests that wait for a worker: first come, first served.

use super::request::{Caller, Rejected, Rejection, Request};
use super::stats::Counters;
use crate::error::{Error, Result};
use crate::generation::GenerationOptions;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

/// A request that the scheduler has taken. Its caller hears of its end, whatever becomes of it.
pub(super) struct Accepted {
    pub(super) source: Vec<u32>,
    pub(super) options: Arc<GenerationOptions>,
    pub(super) number: u64,
    pub(super) deadline: Option<Instant>,
    pub(super) caller: Caller,
}

impl Accepted {
    /// Whether somebody still waits for it.
    pub(super) fn check_wanted(&mut self, now: Instant) -> Result<()> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Error::DeadlinePassed);
        }
        self.caller.settled(&[])
    }
}

/// The queue between callers and workers.
pub(super) struct Queue {
    state: Mutex<State>,
    /// A worker has taken a request, or none will be taken any more.
    taken: Condvar,
    /// How many requests may wait.
    capacity: usize,
    /// Nothing more is wanted, also of what is being decoded.
    stopped: AtomicBool,
    pub(super) counters: Arc<Counters>,
}

struct State {
    waiting: VecDeque<Accepted>,
    closed: bool,
    /// Workers that have not failed or ended.
    workers: usize,
    /// Workers that wait for a request. The last is woken first: its memory is still in the
    /// caches of its core.
    idle: Vec<Thread>,
}

impl State {
    fn wake_all(&mut self) {
        self.idle.drain(..).for_each(|worker| worker.unpark());
    }
}

/// What a worker gets from the queue.
pub(super) enum Next {
    /// The request that has waited longest.
    Request(Accepted),
    /// That request does not fit beside those that the worker has.
    NoRoom,
    /// None waits at the moment.
    NothingYet,
    /// None waits, and none will come.
    End,
}

impl Queue {
    pub(super) fn new(workers: usize, capacity: usize) -> Self {
        Queue {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
                workers,
                idle: Vec::new(),
            }),
            taken: Condvar::new(),
            capacity: capacity.max(1),
            stopped: AtomicBool::new(false),
            counters: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request, or gives it back.
    pub(super) fn push(&self, request: Request) -> Result<(), Box<Rejected>> {
        self.add(self.lock(), request)
    }

    /// Adds a request as soon as there is room, or gives it back where none will be taken.
    pub(super) fn push_when_there_is_room(&self, request: Request) -> Result<(), Box<Rejected>> {
        let mut state = self.lock();
        while !state.closed && state.waiting.len() >= self.capacity {
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.add(state, request)
    }

    fn add(&self, mut state: MutexGuard<'_, State>, request: Request) -> Result<(), Box<Rejected>> {
        let waiting = state.waiting.len();
        if state.closed || waiting >= self.capacity {
            let reason = if state.closed { Rejection::Closed } else { Rejection::Full { waiting } };
            return Err(Box::new(Rejected { request, reason }));
        }
        let Request { source, options, number, deadline, sink } = request;
        let caller = Caller::new(sink, self.counters.clone());
        state.waiting.push_back(Accepted { source, options, number, deadline, caller });
        let idle = state.idle.pop();
        drop(state);
        if let Some(worker) = idle {
            worker.unpark();
        }
        Ok(())
    }

    /// The request that has waited longest, if it fits. With `wait` it is waited for.
    pub(super) fn take(&self, wait: bool, fits: impl Fn(&Accepted) -> bool) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(first) = state.waiting.front() {
                if !fits(first) {
                    return Next::NoRoom;
                }
                let request = state.waiting.pop_front().expect("it was the first just now");
                drop(state);
                self.taken.notify_one();
                return Next::Request(request);
            }
            if state.closed {
                return Next::End;
            }
            if !wait {
                return Next::NothingYet;
            }
            let me = thread::current();
            state.idle.push(me.clone());
            drop(state);
            thread::park();
            state = self.lock();
            // `park` may return although nobody woke this worker.
            state.idle.retain(|worker| worker.id() != me.id());
        }
    }

    /// A worker's share of all requests, those that wait and those that are being decoded.
    pub(super) fn share(&self) -> usize {
        let state = self.lock();
        let running = self.counters.running.load(Ordering::Relaxed);
        (state.waiting.len() + running).div_ceil(state.workers.max(1))
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Takes no more requests. Those that wait are served.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake_all();
        drop(state);
        self.taken.notify_all();
    }

    /// Takes no more requests and serves none: all end before their next step.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.abandon(|| Error::Cancelled);
    }

    /// Whether nothing more is wanted.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Counts a worker out. Where it was the last one, nobody is left to serve those that wait.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.workers -= 1;
        let was_last = state.workers == 0;
        drop(state);
        if was_last {
            self.abandon(|| Error::WorkerFailed);
        }
    }

    /// Closes the queue and ends the requests that wait.
    fn abandon(&self, error: impl Fn() -> Error) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.wake_all();
        drop(state);
        self.taken.notify_all();
        for request in waiting {
            request.caller.end(Err(error()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Queue};
    use crate::generation::{GenerationOptions, Hypothesis};
    use crate::scheduler::Request;
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::{Duration, Instant};

    fn request(number: u64) -> Request {
        let sink = |_: crate::Result<Vec<Hypothesis>>| {};
        let options = Arc::new(GenerationOptions::new(0, vec![1]));
        Request { number, ..Request::new(vec![1], &options, sink) }
    }

    fn wait_for_idle(queue: &Queue, workers: usize) {
        let start = Instant::now();
        while queue.lock().idle.len() < workers {
            assert!(start.elapsed() < Duration::from_secs(60), "the workers do not become idle");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn requests_come_in_their_order() {
        let queue = Queue::new(1, 8);
        (0..5).for_each(|number| queue.push(request(number)).expect("there is room"));
        for number in 0..5 {
            let Next::Request(taken) = queue.take(false, |_| true) else { panic!("one waits") };
            assert_eq!(taken.number, number);
        }
        assert!(matches!(queue.take(false, |_| true), Next::NothingYet));
    }

    #[test]
    fn a_share_counts_what_waits_and_what_is_decoded() {
        let queue = Queue::new(2, 8);
        (0..3).for_each(|number| queue.push(request(number)).expect("there is room"));
        assert_eq!(queue.share(), 2);
        queue.counters.running.store(4, Ordering::Relaxed);
        assert_eq!(queue.share(), 4);
        queue.leave();
        assert_eq!(queue.share(), 7, "the other worker is gone");
    }

    #[test]
    fn the_worker_that_became_idle_last_is_woken_first() {
        const WORKERS: usize = 3;
        let queue = Queue::new(WORKERS, 8);
        let (send, taken) = mpsc::channel();
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (queue, send) = (&queue, send.clone());
                scope.spawn(move || {
                    while let Next::Request(request) = queue.take(true, |_| true) {
                        send.send((worker, request.number)).expect("the test listens");
                        if request.number == WORKERS as u64 - 1 {
                            queue.close();
                        }
                        // It does not become idle before all have had one.
                        while !queue.lock().closed {
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
                wait_for_idle(queue, worker + 1);
            }
            for number in 0..WORKERS as u64 {
                queue.push(request(number)).expect("there is room");
                let worker = WORKERS - 1 - number as usize;
                let got = taken.recv_timeout(Duration::from_secs(60)).expect("somebody takes it");
                assert_eq!(got, (worker, number));
            }
        });
    }
}
