//! Attention with 8 heads of 64: a batch of sentences, and decoding steps. FLOP/s are elements per
//! second; behind each stands the share of the CPU's peak. (Decoding steps wait for memory: each
//! element of a key or value is 4 bytes for 2 operations.)

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::Peak;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tfm_core::fused::KeyRows;
use tfm_cpu::kernels::aligned::Aligned;
use tfm_cpu::kernels::attention::{Keys, Options, attention};
use tfm_cpu::kernels::heads::Heads;
use tfm_cpu::kernels::simd::Isa;
use tfm_cpu::kernels::threads::Threads;

const D: usize = 512;
const HEADS: usize = 8;

fn heads(data: &[f32]) -> Heads<'_> {
    Heads::new(data, [data.len() / D, HEADS, D / HEADS], [D, D / HEADS])
}

fn bench(c: &mut Criterion) {
    let peak = Peak::of_operations("f32", 1);
    let mut group = c.benchmark_group("attention");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    group.sample_size(20);
    let threads = Threads::new(1).expect("one thread needs nothing");
    // Aligned as the backend's buffers are.
    let numbers = |n: usize| {
        let mut data = Aligned::new(n * D).expect("memory");
        data.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 7919 % 1000) as f32 / 1000.0 - 0.5);
        data
    };
    // Sequences, queries of each, keys of each.
    for (sequences, queries, length) in [(32, 30, 30), (2, 512, 512), (8, 4, 30)] {
        let (q, kv) = (numbers(sequences * queries), numbers(sequences * length));
        let query_offsets: Vec<i32> = (0..=sequences).map(|s| (s * queries) as i32).collect();
        let key_ranges: Vec<i32> =
            (0..sequences).flat_map(|s| [(s * length) as i32, length as i32]).collect();
        let mut out = vec![0.0; q.len()];
        let operations = 4 * sequences * queries * length * D;
        group.throughput(Throughput::Elements(operations as u64));
        let id = BenchmarkId::new(format!("{sequences} sequences, {queries} on"), length);
        peak.bench(&mut group, id, (operations, 1), || {
            let rows =
                KeyRows::Ranges { query_offsets: &query_offsets[..], key_ranges: &key_ranges[..] };
            let (q, keys) = (heads(&q), Keys::new([heads(&kv); 2], rows));
            let options = Options { scale: 0.125, ..Options::default() };
            attention(Isa::best(), &threads, q, (keys, None), options, black_box(&mut out));
        });
    }
    let (n, length, width) = (32, 15, 64);
    let (q, cache) = (numbers(n), numbers(n * width));
    let row_table: Vec<i32> = (0..n * width).map(|i| (i * 37 % (n * width)) as i32).collect();
    let lengths = vec![length as i32; n];
    let mut out = vec![0.0; q.len()];
    let operations = 4 * n * length * D;
    group.throughput(Throughput::Elements(operations as u64));
    let id = BenchmarkId::new(format!("row table, {n} on"), length);
    peak.bench(&mut group, id, (operations, 1), || {
        let rows = KeyRows::Table { row_table: &row_table[..], lengths: &lengths[..] };
        let (q, keys) = (heads(&q), Keys::new([heads(&cache); 2], rows));
        let options = Options { scale: 0.125, ..Options::default() };
        attention(Isa::best(), &threads, q, (keys, None), options, black_box(&mut out));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
