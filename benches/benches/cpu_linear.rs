//! The linear layer with a packed weight in every precision, and the same product by `faer`, for
//! several numbers of rows. GFLOP/s are elements per second (2·m·n·k elements a call). Behind each
//! benchmark stands the share that its best time reached of the CPU's peak in that kind of
//! operation, on as many threads.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::Peak;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use tfm_cpu::kernels::epilogue::Epilogue;
use tfm_cpu::kernels::gemm::linear;
use tfm_cpu::kernels::int8::pack::QuantizedWeight;
use tfm_cpu::kernels::int8::{self, DotIsa};
use tfm_cpu::kernels::pack::{PackedWeight, Strided};
use tfm_cpu::kernels::pairs::{at_once, floats, pair_rows};
use tfm_cpu::kernels::rows::Rows;
use tfm_cpu::kernels::scratch::Scratch;
use tfm_cpu::kernels::simd::Isa;
use tfm_cpu::kernels::threads::Threads;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect()
}

fn bench(c: &mut Criterion) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let [f32, bf16, int8] = ["f32", "bf16", "int8"].map(|kind| Peak::of_operations(kind, cores));
    for (k, n) in [(512, 512), (512, 2048), (2048, 512)] {
        let mut group = c.benchmark_group(format!("linear {k}x{n}"));
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
        group.sample_size(20);
        let weight = numbers(n * k);
        let whole = Strided { data: &weight, n, k, column_stride: k, input_stride: 1 };
        let one = Threads::new(1).expect("one thread needs nothing");
        for m in [1, 8, 32, 128, 1024] {
            let (x, mut y) = (numbers(m * k), vec![0.0; m * n]);
            let operations = 2 * m * n * k;
            group.throughput(Throughput::Elements(operations as u64));
            for isa in Isa::available() {
                let packed = PackedWeight::new(isa, &one, whole).expect("memory");
                for count in [1, cores] {
                    let threads = Threads::new(count).expect("threads start");
                    let name = format!("tfm {} {count} threads", isa.name());
                    let x = Rows::contiguous(&x, k);
                    f32.bench(&mut group, BenchmarkId::new(name, m), (operations, count), || {
                        linear(&threads, x, &packed, Epilogue::default(), black_box(&mut y), n);
                    });
                }
            }
            let scratch = Scratch::new();
            let isa = Isa::best();
            let short = PackedWeight::rounded(isa, &one, whole).expect("memory");
            for count in [1, cores] {
                let threads = Threads::new(count).expect("threads start");
                let id = BenchmarkId::new(format!("tfm bf16 {count} threads"), m);
                let mut pairs = vec![0.0; m * floats(isa, k)];
                bf16.bench(&mut group, id, (operations, count), || {
                    pair_rows(isa, &threads, Rows::contiguous(&x, k), &mut pairs);
                    let x = Rows::contiguous(&pairs, floats(isa, k));
                    let (epilogue, y) = (Epilogue::default(), black_box(&mut y));
                    match at_once(&short.panels()) {
                        Some(weight) => linear(&threads, x, weight, epilogue, y, n),
                        None => linear(&threads, x, &short, epilogue, y, n),
                    }
                });
                for isa in DotIsa::available() {
                    let packed = QuantizedWeight::new(isa, &threads, whole).expect("memory");
                    let name = format!("tfm int8 {} {count} threads", isa.name());
                    let x = Rows::contiguous(&x, k);
                    int8.bench(&mut group, BenchmarkId::new(name, m), (operations, count), || {
                        let (out, epilogue) = (black_box(&mut y[..]), Epilogue::default());
                        int8::gemm::linear(&threads, &scratch, x, &packed, epilogue, out, n)
                            .expect("memory");
                    });
                }
            }
            for (count, par) in [(1, Par::Seq), (cores, Par::rayon(cores))] {
                let id = BenchmarkId::new(format!("faer {count} threads"), m);
                f32.bench(&mut group, id, (operations, count), || {
                    let out = MatMut::from_row_major_slice_mut(black_box(&mut y[..]), m, n);
                    let x = MatRef::from_row_major_slice(&x, m, k);
                    let weight = MatRef::from_row_major_slice(&weight, n, k);
                    matmul(out, Accum::Replace, x, weight.transpose(), 1.0, par);
                });
            }
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
