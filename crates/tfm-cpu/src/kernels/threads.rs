//! A number of workers do a number of tasks. With one thread there is no overhead.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use super::workers::Workers;

/// The worker threads of a backend. The calling thread is one of them.
///
/// A worker takes the next task when it is free, so *which* worker does a task is not determined. A
/// kernel's result must depend on the task alone.
#[derive(Debug)]
pub struct Threads {
    workers: Option<Arc<Mutex<Workers>>>,
    count: usize,
    /// The number of threads that a job may be divided among.
    used: AtomicUsize,
}

/// Work below this many floating-point operations (about 50 µs) is not worth waking a thread for.
const WORTHWHILE: usize = 2_000_000;

impl Threads {
    /// `count` threads in all, including the caller's; 0 and 1 start none.
    ///
    /// The system's, if it cannot start a thread.
    /// The system's, when it starts no thread.
    pub fn new(count: usize) -> std::io::Result<Threads> {
        let count = count.max(1);
        let workers = match count {
            1 => None,
            _ => Some(Arc::new(Mutex::new(Workers::new(count - 1)?))),
        };
        Ok(Threads { workers, count, used: AtomicUsize::new(count) })
    }

    /// `count` threads for another caller. They are a share of these, if there are enough, and
    /// otherwise new ones.
    ///
    /// The system's, if it cannot start a thread.
    /// The system's, when it starts no thread.
    pub fn fork(&self, count: usize) -> std::io::Result<Threads> {
        if count > self.count {
            return Threads::new(count);
        }
        let used = AtomicUsize::new(count.max(1));
        Ok(Threads { workers: self.workers.clone(), count: self.count, used })
    }

    /// Divides jobs among at most this number of threads from now on.
    pub fn limit(&self, count: usize) {
        self.used.store(count.clamp(1, self.count), Ordering::Relaxed);
    }

    /// The number of threads that jobs are divided among, including the caller's.
    pub fn count(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The number of tasks, at most `limit`, into which this number of floating-point operations
    /// should be divided.
    pub fn tasks(&self, work: usize, limit: usize) -> usize {
        let count = self.count();
        if count == 1 || work < WORTHWHILE {
            return 1;
        }
        // Several tasks for each worker, so that one that is held up does not hold up all.
        let tasks = (work / (WORTHWHILE / 2)).min(count * 4);
        tasks.min(limit).max(1)
    }

    /// Calls `task` once with each of `0..tasks`.
    ///
    /// If a task panics, this panics with the same.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        // The workers do one job at a time. If they are busy, because a task or another caller has
        // called this, the caller does its tasks alone.
        let free = self.workers.as_deref().filter(|_| tasks > 1).map(Mutex::try_lock);
        let mut workers = match free {
            Some(Ok(workers)) => workers,
            Some(Err(TryLockError::Poisoned(error))) => error.into_inner(),
            Some(Err(TryLockError::WouldBlock)) | None => return (0..tasks).for_each(task),
        };
        let next = AtomicUsize::new(0);
        workers.run(&|| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= tasks {
                    return;
                }
                task(i);
            }
        });
    }

    /// Divides the `rows` rows of `out`, of `row_len` elements each, among the workers. `task` gets
    /// a range of rows and their elements, which is never empty. `row_work` is the number of
    /// floating-point operations for a row.
    pub fn rows<T: Send>(
        &self,
        out: &mut [T],
        row_len: usize,
        row_work: usize,
        task: impl Fn(Range<usize>, &mut [T]) + Sync,
    ) {
        let rows = out.len().checked_div(row_len).unwrap_or(0);
        assert_eq!(rows * row_len, out.len(), "the output must be whole rows");
        if rows == 0 {
            return;
        }
        let tasks = self.tasks(rows.saturating_mul(row_work), rows);
        if tasks == 1 {
            return task(0..rows, out);
        }
        let shared = SharedMut::new(out);
        self.run(tasks, |i| {
            let range = share(rows, tasks, i);
            // SAFETY: the ranges of different tasks do not overlap, and each task runs once.
            let part = unsafe { shared.slice(range.start * row_len..range.end * row_len) };
            task(range, part);
        });
    }
}

/// The work of a product `[m, k]·[k, n]` in floating-point operations, for a weight of this number
/// of bytes. With few rows it takes as long as reading the weight from memory.
pub fn product_work([m, n, k]: [usize; 3], bytes: usize) -> usize {
    /// The operations that take as long as reading a byte.
    const OPERATIONS_A_BYTE: usize = 6;
    m.saturating_mul(2 * n * k).saturating_add(OPERATIONS_A_BYTE * bytes)
}

/// Range `i` of the `parts` even ranges into which `n` items are divided.
pub fn share(n: usize, parts: usize, i: usize) -> Range<usize> {
    i * n / parts..(i + 1) * n / parts
}

/// A slice of which several threads write different parts.
pub struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    life: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: this is a `&mut [T]` whose parts are given to threads. They do not overlap, since `slice`
// demands it.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Shares `slice` for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        SharedMut { start: slice.as_mut_ptr(), len: slice.len(), life: std::marker::PhantomData }
    }

    /// Where the slice begins.
    pub fn pointer(&self) -> *const T {
        self.start
    }

    /// The elements in `range`. Panics if it is out of bounds.
    ///
    /// # Safety
    /// No two slices that live at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies in the slice, and the caller promises that nothing overlaps it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once() {
        for count in [0, 1, 2, 3] {
            let threads = Threads::new(count).unwrap();
            assert_eq!(threads.count(), count.max(1));
            for tasks in [0, 1, 2, 7, 100] {
                let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                threads.run(tasks, |i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_worker_that_sleeps_is_woken_and_one_that_looks_goes_on() {
        let threads = Threads::new(3).unwrap();
        let done = AtomicUsize::new(0);
        for pause in [0, 0, 0, 1, 0, 2, 0].repeat(30) {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            // More tasks than one thread can do before another has started.
            threads.run(64, |_| {
                std::hint::black_box((0..1000).sum::<u64>());
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(done.into_inner(), 7 * 30 * 64);
    }

    /// The two tasks meet, so without workers this would wait for ever.
    #[test]
    fn tasks_run_at_the_same_time() {
        let threads = Threads::new(2).unwrap();
        for _ in 0..100 {
            let meeting = std::sync::Barrier::new(2);
            threads.run(2, |_| {
                meeting.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_workers_live_on() {
        let threads = Threads::new(2).unwrap();
        for guilty in 0..4 {
            let meeting = std::sync::Barrier::new(2);
            let run = std::panic::AssertUnwindSafe(|| {
                threads.run(4, |i| {
                    if i < 2 {
                        meeting.wait(); // one task of these for each thread
                    }
                    assert_ne!(i, guilty, "as it should");
                });
            });
            assert!(std::panic::catch_unwind(run).is_err());
            let done = AtomicUsize::new(0);
            threads.run(10, |_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 10);
        }
    }

    #[test]
    fn tasks_and_several_callers_may_share_the_workers() {
        let threads = Threads::new(2).unwrap();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        threads.run(3, |_| {
                            threads.run(2, |_| {
                                done.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 3 * 50 * 3 * 2);
    }

    #[test]
    fn forks_share_the_workers_and_have_limits_of_their_own() {
        let threads = Threads::new(3).unwrap();
        let fork = threads.fork(1).unwrap();
        assert_eq!((threads.count(), fork.count(), fork.tasks(usize::MAX, 9)), (3, 1, 1));
        fork.limit(9);
        assert_eq!((fork.count(), fork.tasks(usize::MAX, 9)), (3, 9));
        fork.limit(0);
        assert_eq!(fork.count(), 1);
        assert_eq!(threads.fork(4).unwrap().count(), 4);
        let meeting = std::sync::Barrier::new(2);
        threads.run(2, |_| {
            meeting.wait();
        });
        drop(threads);
        fork.run(2, |_| {
            meeting.wait();
        });
    }

    #[test]
    fn rows_are_divided_whole() {
        for count in [1, 2, 3] {
            let threads = Threads::new(count).unwrap();
            for (rows, len) in [(0, 4), (1, 4), (17, 3), (1000, 1), (5, 0)] {
                let mut out = vec![0; rows * len];
                threads.rows(&mut out, len, WORTHWHILE, |range, part| {
                    assert_eq!(part.len(), range.len() * len);
                    for (row, r) in part.chunks_mut(len.max(1)).zip(range) {
                        row.iter_mut().for_each(|x| *x += r + 1);
                    }
                });
                let want: Vec<usize> = (0..rows).flat_map(|r| vec![r + 1; len]).collect();
                assert_eq!(out, want);
            }
        }
    }
}
