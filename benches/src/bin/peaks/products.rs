//! The linear layer of each precision at the sizes of a model, to compare with the peaks.

use std::time::Instant;
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

/// Pairs of inputs and output columns.
pub(crate) const WEIGHTS: [(usize, usize); 3] = [(512, 1536), (512, 2048), (2048, 512)];
/// Rows of the inputs.
pub(crate) const ROWS: [usize; 5] = [1, 4, 8, 32, 128];
/// The precisions.
pub(crate) const KINDS: [&str; 3] = ["f32", "bf16", "int8"];

/// A product that writes its result to the given memory.
type Product<'a> = Box<dyn FnMut(&mut [f32]) + 'a>;

/// The most operations a second of one product on `threads` threads.
pub(crate) fn rate(
    kind: &str,
    (k, n): (usize, usize),
    m: usize,
    threads: usize,
    seconds: f64,
) -> Option<f64> {
    let numbers =
        |n: usize| (0..n).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect::<Vec<f32>>();
    let (weight, x, mut y) = (numbers(n * k), numbers(m * k), vec![0.0; m * n]);
    let whole = Strided { data: &weight, n, k, column_stride: k, input_stride: 1 };
    let (isa, threads, scratch) = (Isa::best(), Threads::new(threads).ok()?, Scratch::new());
    let (x, epilogue) = (Rows::contiguous(&x, k), Epilogue::default());
    let run: Product<'_> = match kind {
        "f32" => {
            let packed = PackedWeight::new(isa, &threads, whole).ok()?;
            Box::new(move |y| linear(&threads, x, &packed, epilogue, y, n))
        }
        "bf16" => {
            let packed = PackedWeight::rounded(isa, &threads, whole).ok()?;
            let floats = floats(isa, k);
            let mut pairs = vec![0.0; m * floats];
            Box::new(move |y| {
                pair_rows(isa, &threads, x, &mut pairs);
                let x = Rows::contiguous(&pairs, floats);
                match at_once(&packed.panels()) {
                    Some(weight) => linear(&threads, x, weight, epilogue, y, n),
                    None => linear(&threads, x, &packed, epilogue, y, n),
                }
            })
        }
        _ => {
            let packed = QuantizedWeight::new(DotIsa::of(isa), &threads, whole).ok()?;
            Box::new(move |y| {
                let done = int8::gemm::linear(&threads, &scratch, x, &packed, epilogue, y, n);
                done.expect("memory for some rows");
            })
        }
    };
    Some(2.0 * (m * n * k) as f64 / fastest(run, &mut y, seconds))
}

/// The shortest time of one call among the calls in `seconds` seconds.
fn fastest(mut run: Product<'_>, y: &mut [f32], seconds: f64) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run(y);
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
