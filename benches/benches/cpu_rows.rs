//! Kernels over rows, on one thread: layer norm, softmax, and the choice of candidates in search.
//! Behind each stands its bandwidth, read and written, as a share of a copy's beyond the caches.
//! Data that lie in a cache may exceed it.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::Peak;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tfm_cpu::kernels::norm::layer_norm;
use tfm_cpu::kernels::rows::Rows;
use tfm_cpu::kernels::simd::Isa;
use tfm_cpu::kernels::softmax::softmax;
use tfm_cpu::kernels::threads::Threads;
use tfm_cpu::kernels::top_k::top_log_probabilities;

fn bench(c: &mut Criterion) {
    let peak = Peak::of_copies();
    let mut group = c.benchmark_group("rows");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    group.sample_size(20);
    let threads = Threads::new(1).expect("one thread needs nothing");
    let isa = Isa::best();
    let numbers = |n: usize| -> Vec<f32> {
        (0..n as u64).map(|i| (i * 2_654_435_761 % 100_003) as f32 / 5000.0).collect()
    };

    let (rows, d) = (32, 512);
    let (x, weight, mut out) = (numbers(rows * d), numbers(d), vec![0.0; rows * d]);
    group.throughput(Throughput::Elements((rows * d) as u64));
    let id = BenchmarkId::new("layer norm", format!("{rows}x{d}"));
    peak.bench(&mut group, id, (8 * rows * d, 1), || {
        let x = Rows::contiguous(&x, d);
        layer_norm(isa, &threads, x, &weight, &weight, 1e-5, black_box(&mut out));
    });

    for v in [8_000, 58_101] {
        let (logits, bias, mut out) = (numbers(rows * v), vec![0.0; v], vec![0.0; rows * v]);
        group.throughput(Throughput::Elements((rows * v) as u64));
        let id = BenchmarkId::new("log softmax", format!("{rows}x{v}"));
        peak.bench(&mut group, id, (8 * rows * v, 1), || {
            softmax(isa, &threads, Rows::contiguous(&logits, v), true, black_box(&mut out));
        });
        for k in [8, 64] {
            let (mut values, mut ids) = (vec![0.0; rows * k], vec![0; rows * k]);
            let id = BenchmarkId::new(format!("top {k} log-probabilities"), format!("{rows}x{v}"));
            peak.bench(&mut group, id, (4 * rows * v, 1), || {
                let logits = Rows::contiguous(&logits, v);
                let out = black_box((&mut values, &mut ids));
                top_log_probabilities(isa, &threads, logits, &bias, k, out.0, out.1);
            });
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
