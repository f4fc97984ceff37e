//! The workers: threads that spin while they wait for a job, and sleep only after some time.
//!
//! A step of training is hundreds of jobs of less than a millisecond. Waking a sleeping thread
//! takes some ten microseconds each time, and the system often wakes it on the core of the calling
//! thread. A worker that still spins begins at once, on its own core.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker spins for the next job before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(200);
/// The number of loads of the state between two readings of the clock.
const SPINS: usize = 64;

/// Threads that take part in the jobs of the caller's thread.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// The state of the job in one word: its number, how many workers are in it, and whether another
/// worker may enter.
mod state {
    /// Workers may enter.
    pub(super) const OPEN: usize = 1;
    /// The workers have to end.
    pub(super) const END: usize = 2;
    /// Counts one worker.
    pub(super) const WORKER: usize = 4;
    /// Counts one job.
    pub(super) const JOB: usize = 1 << 16;
    /// The number of workers that are in the job.
    pub(super) fn workers(state: usize) -> usize {
        state % JOB / WORKER
    }
    /// The number of the job. It begins again when the word overflows.
    pub(super) fn number(state: usize) -> usize {
        state / JOB
    }
}

struct Shared {
    state: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// The number of workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// A worker holds this from its last load of the state until it sleeps.
    sleep: Mutex<()>,
    /// Wakes the workers that sleep.
    wake: Condvar,
    /// The payload of a worker's panic.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What the workers call. Its lifetime is erased.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn() + Sync));

// SAFETY: the function is `Sync`. Workers read it only while `Workers::run`, which borrows it,
// waits.
unsafe impl Send for Shared {}
// SAFETY: `job` is written only while no worker is in a job or can enter one. Everything else is
// atomic or behind a lock.
unsafe impl Sync for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workers {
    /// Starts `count` workers.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(count: usize) -> std::io::Result<Workers> {
        let shared = Arc::new(Shared {
            state: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let mut workers = Workers { shared, threads: Vec::new() };
        for i in 1..=count.min(state::JOB / state::WORKER - 1) {
            let shared = workers.shared.clone();
            let thread = std::thread::Builder::new().name(format!("tfm-cpu-{i}"));
            workers.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(workers)
    }

    /// Calls `job` on this thread, and on each worker that enters before this thread's call has
    /// returned. Returns when all calls have. It takes `&mut self`, since there is one job at a
    /// time.
    ///
    /// If a call of `job` panics, this panics with the same when all calls have returned.
    pub(super) fn run(&mut self, job: &(dyn Fn() + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers call the job only between `open` and the end
        // of `close`. `close` ends before this function returns, even if `job` panics here.
        let forgotten: &'static (dyn Fn() + Sync) = unsafe { std::mem::transmute(job) };
        // SAFETY: `close` waited until no worker was in a job, and no worker enters a job that is
        // not open.
        unsafe { *shared.job.get() = Some(Job(forgotten)) };
        shared.open();
        let mine = catch_unwind(AssertUnwindSafe(job));
        shared.close();
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.state.fetch_or(state::END, Ordering::SeqCst);
        self.shared.wake();
        for thread in self.threads.drain(..) {
            // A worker catches the panics of jobs.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Lets workers enter the job, and wakes those that sleep.
    fn open(&self) {
        self.state.fetch_add(state::JOB + state::OPEN, Ordering::SeqCst);
        self.wake();
    }

    /// Lets no more workers enter, and waits for those that are in the job.
    fn close(&self) {
        self.state.fetch_sub(state::OPEN, Ordering::Relaxed);
        let mut spins = 0;
        while state::workers(self.state.load(Ordering::Acquire)) > 0 {
            spins += 1;
            if spins % (16 * SPINS) == 0 {
                // The system may have given the worker's core to another thread.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }

    fn wake(&self) {
        // Either a worker that is about to sleep sees the new state, or this sees that worker.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
    }

    /// The loop of a worker.
    fn work(&self) {
        let mut last = 0;
        loop {
            let seen = self.next(last);
            if seen & state::END != 0 {
                return;
            }
            last = state::number(seen);
            // The exchange fails if another worker has come or gone, or if the job was closed. Then
            // look at the state again.
            let mut current = seen;
            let entered = loop {
                if current & state::OPEN == 0 || state::number(current) != last {
                    break false;
                }
                match self.state.compare_exchange_weak(
                    current,
                    current + state::WORKER,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => break true,
                    Err(now) => current = now,
                }
            };
            if entered {
                // SAFETY: the job was written before it was opened, and is not written again before
                // this worker leaves it.
                let job = unsafe { (*self.job.get()).expect("an open job is there") };
                // SAFETY: `Workers::run` holds the borrow until this worker has left.
                let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*job.0)() }));
                if let Err(panic) = result {
                    *lock(&self.panic) = Some(panic);
                }
                self.state.fetch_sub(state::WORKER, Ordering::Release);
            }
        }
    }

    /// Waits for an open job with another number than `last`, or for the end.
    fn next(&self, last: usize) -> usize {
        let news = |state: usize| {
            state & state::END != 0 || (state & state::OPEN != 0 && state::number(state) != last)
        };
        let began = Instant::now();
        loop {
            for _ in 0..SPINS {
                let state = self.state.load(Ordering::Acquire);
                if news(state) {
                    return state;
                }
                std::hint::spin_loop();
            }
            if began.elapsed() > SPIN_TIME {
                break;
            }
        }
        let mut sleep = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let seen = loop {
            let state = self.state.load(Ordering::SeqCst);
            if news(state) {
                break state;
            }
            sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        seen
    }
}
