//! The most that the CPU can do, to compare kernels with.

pub mod kernels;
pub mod memory;

use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

/// The number of repeats, of about a millisecond each, that suffices to see a peak.
const REPEATS: usize = 100;

/// The most bytes a second that one thread reads and writes in a copy from beyond the caches.
pub fn copy() -> f64 {
    memory::copy(1, REPEATS)
}

/// The most operations a second of this kind (`f32`, `bf16` or `int8`) on `threads` threads; 0
/// where the CPU has no such operations.
pub fn of_kind(kind: &str, threads: usize) -> f64 {
    let kernels = kernels::available();
    let of_kind = kernels.iter().filter(|kernel| kernel.kind == kind);
    let rates = of_kind.map(|kernel| best(threads, REPEATS, || (), |()| (kernel.run)() as f64));
    rates.fold(0.0, f64::max)
}

/// The most that `threads` threads did together in a second, in the units in which each call of
/// `work` returns what it did. Every thread first makes a state of its own.
pub fn best<T>(
    threads: usize,
    repeats: usize,
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&mut T) -> f64 + Sync,
) -> f64 {
    let barrier = Barrier::new(threads);
    // For each repeat, what all threads did, and the time of the slowest.
    let all = Mutex::new(vec![(0.0, 0.0f64); repeats]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut state = prepare();
                for repeat in 0..repeats {
                    barrier.wait();
                    let start = Instant::now();
                    let done = work(&mut state);
                    let seconds = start.elapsed().as_secs_f64();
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all[repeat] = (all[repeat].0 + done, all[repeat].1.max(seconds));
                }
            });
        }
    });
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.iter().map(|(done, seconds)| done / seconds).fold(0.0, f64::max)
}
