//! Compares the kernels at the sizes of real models, on a device, with the CPU's in f32. An
//! interpreter would take hours, so these tests do nothing unless `TFM_CUDA_DEVICE=1` says that
//! there is a device.

use tfm_core::backend::{Signature, View, ViewMut};
use tfm_core::fused::{
    Activation, Attention, AttentionGradient, CrossEntropy, DropoutMask, Fused, FusedOp, KeyLookup,
    KeySet, LayerNorm, LayerNormGradient, Linear, Operand, RelativeBias, Softmax,
    TopLogProbabilities,
};
use tfm_core::reference::tensor_from_f64;
use tfm_core::testing::Data;
use tfm_core::{Backend, DType, Layout, Shape, Tensor};
use tfm_cpu::CpuBackend;
use tfm_cuda::CudaBackend;

const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
/// Lengths on both sides of tiles of 16, 32, 64 and 128, an empty one, and long ones.
const LENGTHS: [usize; 12] = [1, 0, 63, 64, 65, 129, 511, 513, 17, 1000, 2, 1537];

struct Pair {
    cuda: CudaBackend,
    cpu: CpuBackend,
}

impl Pair {
    /// `None` if there is no device to use.
    fn new() -> Option<Pair> {
        if std::env::var_os("TFM_CUDA_DEVICE").is_none() {
            println!("skipped: TFM_CUDA_DEVICE is not set");
            return None;
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let cuda = CudaBackend::new(0).expect("there is a device");
        Some(Pair { cuda, cpu: CpuBackend::new(threads).unwrap() })
    }

    /// Results on the device, and those of the CPU from the same numbers in f32.
    fn both(&self, op: impl Into<Fused>, inputs: &[Tensor]) -> [Vec<Tensor>; 2] {
        let op = op.into();
        let wide: Vec<Tensor> = inputs.iter().map(in_f32).collect();
        [compute(&self.cuda, &op, inputs), compute(&self.cpu, &op, &wide)]
    }

    /// Checks ‖Δ‖ ≤ tolerance·‖reference‖ of each result.
    fn check(&self, what: &str, op: impl Into<Fused>, inputs: &[Tensor]) {
        let [found, expected] = self.both(op, inputs);
        let dtype = inputs[0].dtype();
        for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = difference(found, expected);
            println!("{what} {dtype}, result {number}: {error:.1e}");
            assert!(error <= tolerance(dtype), "{what} {dtype}, result {number}: {error:e}");
        }
    }
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 1e-3,
        _ => 5e-3,
    }
}

/// ‖a − b‖/‖b‖.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f64(), b.to_f64());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
    error / norm(&mut b.iter().copied()).max(f64::MIN_POSITIVE)
}

fn in_f32(x: &Tensor) -> Tensor {
    match x.dtype() {
        DType::I32 => x.clone(),
        _ => tensor_from_f64(x.to_f64().into_iter(), DType::F32, x.shape()),
    }
}

/// Computes one op in new memory, which held NaN before.
fn compute<B: Backend>(backend: &B, op: &Fused, inputs: &[Tensor]) -> Vec<Tensor> {
    let operands: Vec<_> =
        inputs.iter().map(|x| Operand { shape: x.shape(), dtype: x.dtype() }).collect();
    let results = op.infer(&operands).unwrap();
    let inputs: Vec<_> = inputs
        .iter()
        .map(|x| {
            let mut buffer = backend.allocate(x.dtype(), x.shape().elements()).unwrap();
            backend.upload(x.as_slice(), &mut buffer).unwrap();
            (buffer, x.dtype(), Layout::contiguous(x.shape()))
        })
        .collect();
    let signature: Vec<_> =
        inputs.iter().map(|(_, dtype, layout)| (*dtype, layout.clone())).collect();
    let name = backend.name();
    assert!(
        backend.supports(op, &Signature { inputs: &signature }),
        "{op:?} is decomposed on {name}"
    );
    let mut memory: Vec<_> = results
        .iter()
        .map(|(shape, dtype)| {
            let layout = Layout::contiguous(shape);
            let mut buffer = backend.allocate(*dtype, shape.elements()).unwrap();
            let poison = if dtype.is_float() { f64::NAN } else { -7.0 };
            let target = ViewMut { buffer: &mut buffer, dtype: *dtype, layout: &layout };
            backend.fill(poison, target).unwrap();
            (buffer, *dtype, layout)
        })
        .collect();
    let views: Vec<_> = inputs
        .iter()
        .map(|(buffer, dtype, layout)| View { buffer, dtype: *dtype, layout })
        .collect();
    let mut targets: Vec<_> = memory
        .iter_mut()
        .map(|(buffer, dtype, layout)| ViewMut { buffer, dtype: *dtype, layout })
        .collect();
    backend.fused(op, &views, &mut targets).unwrap();
    let read = |(buffer, dtype, layout): &(B::Buffer, DType, Layout)| {
        backend.download(View { buffer, dtype: *dtype, layout }).unwrap()
    };
    memory.iter().map(read).collect()
}

fn floats(seed: u64, dtype: DType, shape: &[usize]) -> Tensor {
    Data::new(seed).tensor(dtype, &Shape::new(shape), 1.0)
}

fn integers(shape: &[usize], data: Vec<i32>) -> Tensor {
    Tensor::from_i32(Shape::new(shape), data).unwrap()
}

#[test]
fn rows() {
    let Some(pair) = Pair::new() else { return };
    for dtype in FLOATS {
        let (n, d, v) = (8192, 1024, 54_688);
        let [x, weight, bias] = [(1, &[n, d][..]), (2, &[d]), (3, &[d])]
            .map(|(seed, shape)| floats(seed, dtype, shape));
        let dy = floats(4, dtype, &[n, d]);
        let inputs = [x.clone(), weight.clone(), bias];
        pair.check("layer norm", LayerNorm { epsilon: 1e-5 }, &inputs);
        pair.check("its gradient", LayerNormGradient { epsilon: 1e-5 }, &[x, weight, dy]);
        let logits = floats(5, dtype, &[512, v]);
        let targets = integers(&[512], (0..512).map(|i| (i * 7919) % v as i32).collect());
        pair.check("softmax", Softmax { log: false }, std::slice::from_ref(&logits));
        pair.check("loss", CrossEntropy { smoothing: 0.1 }, &[logits.clone(), targets]);
        let bias = floats(6, dtype, &[v]);
        let best = TopLogProbabilities { k: 8 };
        let [found, expected] = pair.both(best, &[logits, bias]);
        let error = difference(&found[0], &expected[0]);
        println!("best of a row {dtype}: {error:.1e}");
        assert!(error <= tolerance(dtype), "best of a row {dtype}: {error:e}");
        // In 16 bits many are equal. The CPU rounds its sums at other places, and so gives another
        // order.
        assert!(dtype != DType::F32 || found[1] == expected[1], "best of a row {dtype}");
    }
}

#[test]
fn products() {
    let Some(pair) = Pair::new() else { return };
    for (m, n, k) in [(4096, 4096, 1024), (257, 54_688, 512), (16, 2048, 512), (1, 513, 2048)] {
        for dtype in FLOATS {
            for activation in [None, Some(Activation::Relu), Some(Activation::GeluTanh)] {
                let residual = activation.is_none();
                let linear = Linear { bias: true, activation, residual, ..Linear::default() };
                let mut inputs = vec![
                    floats(1, dtype, &[m, k]),
                    floats(2, dtype, &[n, k]),
                    floats(3, dtype, &[n]),
                ];
                inputs.extend(residual.then(|| floats(4, dtype, &[m, n])));
                pair.check(&format!("linear {m}×{k}·{k}×{n} {activation:?}"), linear, &inputs);
            }
        }
    }
}

/// The kinds of attention: each size of heads, with or without causality, biases and dropout.
fn kinds() -> impl Iterator<Item = (usize, Attention)> {
    let sizes = [64, 128, 80, 256];
    sizes.into_iter().flat_map(|size| {
        [(false, false, false), (true, false, false), (true, true, false), (false, true, true)]
            .into_iter()
            .map(move |(causal, biased, dropped)| {
                let bidirectional = !causal;
                let bias = biased.then_some(RelativeBias {
                    buckets: 32,
                    max_distance: 128,
                    bidirectional,
                });
                let dropout = dropped.then_some(DropoutMask { rate: 0.1, stream: 7 });
                let scale = (size as f64).powf(-0.5);
                let keys = KeySet { causal, bias, ..KeySet::default() };
                (size, Attention { scale, dropout, keys, ..Attention::default() })
            })
    })
}

#[test]
fn attention_and_its_gradient() {
    let Some(pair) = Pair::new() else { return };
    let (heads, tokens) = (4, LENGTHS.iter().sum::<usize>());
    let [offsets, ranges] = sequences();
    for (size, attention) in kinds() {
        for dtype in FLOATS {
            let x = |seed| floats(seed, dtype, &[tokens, heads, size]);
            let mut forward = vec![x(1), x(2), x(3), offsets.clone(), ranges.clone()];
            let key = attention.dropout.map(|_| integers(&[3], vec![1, 2, 3]));
            let bias = attention.keys.bias.map(|_| floats(5, DType::F32, &[32, heads]));
            forward.extend(bias.into_iter().chain(key));
            let mut what = format!("attention of {size}");
            for (said, word) in [
                (attention.keys.causal, ", causal"),
                (attention.keys.bias.is_some(), ", biased"),
                (attention.dropout.is_some(), ", dropout"),
            ] {
                what += if said { word } else { "" };
            }
            pair.check(&what, attention, &forward);
            // Blocks have too little memory for heads of 256 and gradients of biases.
            if size == 256 && attention.keys.bias.is_some() {
                continue;
            }
            let [results, _] = pair.both(attention, &forward);
            forward.extend(results);
            forward.push(x(4));
            pair.check(&format!("{what}, gradient"), AttentionGradient(attention), &forward);
        }
    }
}

/// Offsets of the queries and ranges of the keys of sequences of [`LENGTHS`].
fn sequences() -> [Tensor; 2] {
    let ends = LENGTHS.iter().scan(0, |end, length| {
        *end += length;
        Some(*end as i32)
    });
    let offsets: Vec<i32> = [0].into_iter().chain(ends).collect();
    let ranges = offsets.iter().zip(LENGTHS).flat_map(|(start, n)| [*start, n as i32]).collect();
    [integers(&[LENGTHS.len() + 1], offsets), integers(&[LENGTHS.len(), 2], ranges)]
}

/// The general kernels: groups of heads, windows, caps and biases, one set of keys by ranges or
/// two.
#[test]
fn general_attention() {
    let Some(pair) = Pair::new() else { return };
    let (heads, kv_heads, tokens) = (8, 2, LENGTHS.iter().sum::<usize>());
    let [offsets, ranges] = sequences();
    let bias = Some(RelativeBias { buckets: 32, max_distance: 128, bidirectional: false });
    let grouped = KeySet::default();
    let windowed = KeySet { causal: true, window: Some(300), ..KeySet::default() };
    let biased = KeySet { bias, ..windowed };
    for size in [64, 128, 80, 256] {
        for (keys, more_keys, soft_cap) in [
            (grouped, None, None),
            (windowed, None, Some(50.0)),
            (biased, None, Some(5.0)),
            (biased, Some(grouped), None),
            (windowed, Some(biased), Some(50.0)),
        ] {
            let scale = (size as f64).powf(-0.5);
            let op = Attention { scale, soft_cap, keys, more_keys, dropout: None };
            for dtype in FLOATS {
                let mut inputs = vec![floats(1, dtype, &[tokens, heads, size])];
                for (seed, set) in [(2, Some(keys)), (5, more_keys)] {
                    let Some(set) = set else { continue };
                    let key = |seed| floats(seed, dtype, &[tokens, kv_heads, size]);
                    inputs.extend([key(seed), key(seed + 1), offsets.clone(), ranges.clone()]);
                    inputs.extend(set.bias.map(|_| floats(seed + 2, DType::F32, &[32, heads])));
                }
                pair.check(&format!("general attention of {size}, {op:?}"), op, &inputs);
            }
        }
    }
}

/// A step of merged self- and cross-attention, and of self-attention alone, with groups of heads.
#[test]
fn general_attention_of_a_step() {
    let Some(pair) = Pair::new() else { return };
    let (n, heads, kv_heads, width, rows) = (256, 8, 2, 700, 20_000);
    for size in [64, 128, 256] {
        for dtype in FLOATS {
            let mut data = Data::new(9);
            let table = (0..n * width).map(|_| data.below(rows) as i32).collect();
            let lengths = (0..n).map(|_| data.below(width + 1) as i32).collect();
            let offsets = (0..=n / 4).map(|s| 4 * s as i32).collect();
            let sentences = (0..n / 4).flat_map(|s| [250 * s as i32, data.below(250) as i32]);
            let cache = |seed| floats(seed, dtype, &[rows, kv_heads, size]);
            let query = floats(1, dtype, &[n, heads, size]);
            let own = [cache(2), cache(3), integers(&[n, width], table), integers(&[n], lengths)];
            let ranges = integers(&[n / 4, 2], sentences.collect());
            let cross = [cache(4), cache(5), integers(&[n / 4 + 1], offsets), ranges];
            let keys = KeySet { lookup: KeyLookup::Table, window: Some(600), ..KeySet::default() };
            let scale = (size as f64).powf(-0.5);
            let alone = Attention { scale, soft_cap: Some(50.0), keys, ..Attention::default() };
            let mut inputs = vec![query];
            inputs.extend(own);
            pair.check(&format!("attention of a step in groups of {size}"), alone, &inputs);
            let merged = Attention { more_keys: Some(KeySet::default()), ..alone };
            inputs.extend(cross);
            pair.check(&format!("merged attention of a step of {size}"), merged, &inputs);
        }
    }
}

#[test]
fn attention_of_a_step() {
    let Some(pair) = Pair::new() else { return };
    let (n, heads, width) = (256, 8, 700);
    for size in [64, 128] {
        for dtype in FLOATS {
            let rows = 20_000;
            let mut data = Data::new(9);
            let table = (0..n * width).map(|_| data.below(rows) as i32).collect();
            let lengths = (0..n).map(|_| data.below(width + 1) as i32).collect();
            let inputs = [
                floats(1, dtype, &[n, heads, size]),
                floats(2, dtype, &[rows, heads, size]),
                floats(3, dtype, &[rows, heads, size]),
                integers(&[n, width], table),
                integers(&[n], lengths),
            ];
            let scale = (size as f64).powf(-0.5);
            let keys = KeySet { lookup: KeyLookup::Table, ..KeySet::default() };
            let attention = Attention { scale, keys, ..Attention::default() };
            pair.check(&format!("row-table attention of {size}"), attention, &inputs);
        }
    }
}
