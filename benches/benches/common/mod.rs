//! The peaks that the benchmarks are compared with.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId};
use std::cell::Cell;
use std::time::Instant;
use tfm_benches::peaks;

/// The most that the CPU can do of one thing in a second, on one thread and on all.
pub(crate) struct Peak {
    what: String,
    one: f64,
    all: f64,
}

#[allow(dead_code, reason = "each benchmark is held against what binds it")]
impl Peak {
    /// Operations of one kind: `f32`, `bf16` or `int8`.
    pub(crate) fn of_operations(kind: &str, cores: usize) -> Self {
        let [one, all] = [1, cores].map(|threads| peaks::of_kind(kind, threads));
        let what = format!("peak of {kind}");
        println!("{what}: {:.1} GOP/s on 1 thread, {:.1} on {cores}", one / 1e9, all / 1e9);
        Peak { what, one, all }
    }

    /// Bytes that one thread reads and writes in a copy from beyond the caches.
    pub(crate) fn of_copies() -> Self {
        let one = peaks::copy();
        println!("copy beyond the caches: {:.1} GB/s on 1 thread", one / 1e9);
        Peak { what: "copy's bandwidth".into(), one, all: one }
    }

    /// Measures `run`, which does `amount` of work, and prints which share of the peak its best
    /// time reached.
    pub(crate) fn bench(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        id: BenchmarkId,
        (amount, threads): (usize, usize),
        mut run: impl FnMut(),
    ) {
        let best = Cell::new(f64::INFINITY);
        group.bench_function(id, |b| {
            b.iter_custom(|count| {
                let start = Instant::now();
                for _ in 0..count {
                    run();
                }
                let time = start.elapsed();
                best.set(best.get().min(time.as_secs_f64() / count as f64));
                time
            });
        });
        let peak = if threads == 1 { self.one } else { self.all };
        // A benchmark that the filter left out has no time.
        if best.get().is_finite() && peak > 0.0 {
            let share = 100.0 * amount as f64 / best.get() / peak;
            println!("{:24}{share:.0}% of the {}", "", self.what);
        }
    }
}
