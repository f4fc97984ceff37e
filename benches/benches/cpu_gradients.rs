//! The products that are gradients of weights, in which neither matrix is packed before, and
//! packing; beside `faer`. GFLOP/s are elements per second (2·m·n·k elements a call). Behind each
//! benchmark stands its share of the CPU's peak.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::Peak;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul as faer_matmul};
use tfm_cpu::kernels::matmul::Matrix;
use tfm_cpu::kernels::pack::{Panels, Strided};
use tfm_cpu::kernels::packed_matmul::packed_matmul;
use tfm_cpu::kernels::scratch::Scratch;
use tfm_cpu::kernels::simd::Isa;
use tfm_cpu::kernels::threads::Threads;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// `[m, n, k]` of `dW = dYᵀ·X`: outputs, inputs and rows of a linear layer.
const SHAPES: [[usize; 3]; 5] =
    [[256, 256, 4096], [512, 512, 640], [512, 2048, 640], [8000, 512, 640], [8000, 256, 4096]];

fn gradients(c: &mut Criterion) {
    let isa = Isa::best();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let peak = Peak::of_operations("f32", cores);
    for [m, n, k] in SHAPES {
        let mut group = c.benchmark_group(format!("gradient {m}x{n}x{k}"));
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
        let operations = 2 * m * n * k;
        group.sample_size(10).throughput(Throughput::Elements(operations as u64));
        let (a, b, mut out) = (numbers(k * m), numbers(k * n), vec![0.0; m * n]);
        let pair = (
            Matrix { data: &a, stride: m, by_rows: false },
            Matrix { data: &b, stride: n, by_rows: true },
        );
        let scratch = Scratch::new();
        for count in [1, cores] {
            let threads = Threads::new(count).expect("threads start");
            peak.bench(&mut group, BenchmarkId::new("tfm", count), (operations, count), || {
                packed_matmul(isa, &threads, &scratch, [m, k, n], pair, black_box(&mut out))
                    .expect("memory");
            });
        }
        for (count, par) in [(1, Par::Seq), (cores, Par::rayon(cores))] {
            peak.bench(&mut group, BenchmarkId::new("faer", count), (operations, count), || {
                let out = MatMut::from_row_major_slice_mut(black_box(&mut out[..]), m, n);
                let a = MatRef::from_column_major_slice(&a, m, k);
                let b = MatRef::from_row_major_slice(&b, k, n);
                faer_matmul(out, Accum::Replace, a, b, 1.0, par);
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
