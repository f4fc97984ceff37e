//! Products of gradients of weights (two matrices neither of which is packed before) and packing, beside
//! `faer`. GFLOP/s are elements per second (2·m·n·k elements a call); the table that comes first has the
//! shares of the peak, which is measured too: by the same loop over what lies in the first-level cache.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul as faer_matmul};
use tfm_cpu::kernels::epilogue::Epilogue;
use tfm_cpu::kernels::gemm::linear;
use tfm_cpu::kernels::matmul::Matrix;
use tfm_cpu::kernels::pack::{PackedWeight, Panels, Strided};
use tfm_cpu::kernels::packed_matmul::packed_matmul;
use tfm_cpu::kernels::rows::Rows;
use tfm_cpu::kernels::scratch::Scratch;
use tfm_cpu::kernels::simd::Isa;
use tfm_cpu::kernels::threads::Threads;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// `[m, n, k]` of `dW = dYᵀ·X`: outputs, inputs and rows of a linear layer.
const SHAPES: [[usize; 3]; 5] =
    [[256, 256, 4096], [512, 512, 640], [512, 2048, 640], [8000, 512, 640], [8000, 256, 4096]];

/// The least time of some runs, in seconds.
fn least(mut f: impl FnMut()) -> f64 {
    let (start, mut least) = (Instant::now(), f64::MAX);
    while start.elapsed() < Duration::from_millis(600) {
        let begun = Instant::now();
        f();
        least = least.min(begun.elapsed().as_secs_f64());
    }
    least
}

/// GFLOP/s of one core on 8 rows and a panel that stay in the first-level cache.
fn peak(isa: Isa) -> f64 {
    let (m, n, k) = (64, 2 * isa.lanes(), 192);
    let one = Threads::new(1).expect("one thread needs nothing");
    let (x, weight, mut y) = (numbers(m * k), numbers(n * k), vec![0.0; m * n]);
    let whole = Strided { data: &weight, n, k, column_stride: k, input_stride: 1 };
    let packed = PackedWeight::new(isa, &one, whole).expect("memory");
    let rows = Rows::contiguous(&x, k);
    let run = || linear(&one, rows, &packed, Epilogue::default(), black_box(&mut y), n);
    (2 * m * n * k) as f64 / least(run) / 1e9
}

fn gradients(c: &mut Criterion) {
    let isa = Isa::best();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let peak = peak(isa);
    println!("one core at its best: {peak:.1} GFLOP/s ({})", isa.name());
    for [m, n, k] in SHAPES {
        let mut group = c.benchmark_group(format!("gradient {m}x{n}x{k}"));
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
        group.sample_size(10).throughput(Throughput::Elements((2 * m * n * k) as u64));
        let (a, b, mut out) = (numbers(k * m), numbers(k * n), vec![0.0; m * n]);
        let pair = (
            Matrix { data: &a, stride: m, by_rows: false },
            Matrix { data: &b, stride: n, by_rows: true },
        );
        let scratch = Scratch::new();
        for count in [1, cores] {
            let threads = Threads::new(count).expect("threads start");
            let mut run = || {
                packed_matmul(isa, &threads, &scratch, [m, k, n], pair, black_box(&mut out))
                    .expect("memory");
            };
            let share = (2 * m * n * k) as f64 / least(&mut run) / 1e9 / peak / count as f64;
            println!("gradient {m}x{n}x{k}, {count} threads: {:.0}% of the peak", 100.0 * share);
            group.bench_function(BenchmarkId::new("tfm", count), |bench| bench.iter(&mut run));
        }
        for (count, par) in [(1, Par::Seq), (cores, Par::rayon(cores))] {
            group.bench_function(BenchmarkId::new("faer", count), |bench| {
                bench.iter(|| {
                    let out = MatMut::from_row_major_slice_mut(black_box(&mut out[..]), m, n);
                    let a = MatRef::from_column_major_slice(&a, m, k);
                    let b = MatRef::from_row_major_slice(&b, k, n);
                    faer_matmul(out, Accum::Replace, a, b, 1.0, par);
                });
            });
        }
    }
}

fn packing(c: &mut Criterion) {
    let isa = Isa::best();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut group = c.benchmark_group("pack");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for (n, k) in [(512, 512), (2048, 512), (8000, 512)] {
        let weight = numbers(n * k);
        let mut memory = vec![0.0; Panels::elements(isa, n, k)];
        group.throughput(Throughput::Elements((n * k) as u64));
        for (name, column_stride, input_stride) in [("rows", k, 1), ("columns", 1, n)] {
            let weight = Strided { data: &weight, n, k, column_stride, input_stride };
            let threads = Threads::new(cores).expect("threads start");
            group.bench_function(BenchmarkId::new(name, format!("{n}x{k}")), |bench| {
                bench.iter(|| black_box(Panels::pack(isa, &threads, weight, &mut memory).n()));
            });
        }
    }
}

criterion_group!(benches, gradients, packing);
criterion_main!(benches);
