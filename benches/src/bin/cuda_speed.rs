//! Times the CUDA kernels on a device and prints a line for each. A kernel that is bound by memory
//! is compared with the bandwidth of a copy on the same device. Products and attention are given in
//! TFLOP/s. `cuda_peers.py` prints the same lines for PyTorch.

use std::error::Error;
use std::time::Instant;
use tfm_core::backend::{Signature, View, ViewMut};
use tfm_core::fused::{
    Activate, Activation, Adam, Attention, AttentionGradient, CrossEntropy, Dropout, DropoutMask,
    Embedding, Fused, FusedOp, KeyLookup, KeySet, LayerNorm, LayerNormGradient, Linear, Operand,
    RelativeBias, RmsNorm, RmsNormGradient, Softmax, TopLogProbabilities,
};
use tfm_core::{Backend, DType, HostSlice, Layout, Shape};
use tfm_cuda::{Buffer, CudaBackend};

/// How often a kernel runs before it is timed.
const WARM: usize = 3;
/// How many timings there are.
const TIMINGS: usize = 9;
/// How often a kernel runs in one timing at most.
const CALLS: usize = 20;
/// About how many seconds one timing takes.
const SECONDS: f64 = 0.01;
/// Bytes of the copy that says how fast memory is.
const COPIED: usize = 512 << 20;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// An operand of a kernel.
struct Tensor {
    buffer: Buffer,
    dtype: DType,
    layout: Layout,
}

impl Tensor {
    fn new(cuda: &CudaBackend, dtype: DType, shape: &[usize]) -> Outcome<Tensor> {
        let shape = Shape::new(shape);
        let buffer = cuda.allocate(dtype, shape.elements())?;
        Ok(Tensor { buffer, dtype, layout: Layout::contiguous(&shape) })
    }

    /// Numbers between −1 and 1, or the integers `below` a bound in turn.
    fn filled(cuda: &CudaBackend, dtype: DType, shape: &[usize], below: usize) -> Outcome<Tensor> {
        let mut tensor = Tensor::new(cuda, dtype, shape)?;
        let n = tensor.layout.shape().elements();
        let number = |i: usize| (i * 7919 % 2003) as f32 / 1001.5 - 1.0;
        match dtype {
            DType::I32 => {
                let data: Vec<i32> = (0..n).map(|i| (i % below.max(1)) as i32).collect();
                cuda.upload(HostSlice::I32(&data), &mut tensor.buffer)?;
            }
            DType::F32 => {
                let data: Vec<f32> = (0..n).map(number).collect();
                cuda.upload(HostSlice::F32(&data), &mut tensor.buffer)?;
            }
            DType::F16 => {
                let data: Vec<half::f16> = (0..n).map(|i| half::f16::from_f32(number(i))).collect();
                cuda.upload(HostSlice::F16(&data), &mut tensor.buffer)?;
            }
            DType::BF16 => {
                let data: Vec<half::bf16> =
                    (0..n).map(|i| half::bf16::from_f32(number(i))).collect();
                cuda.upload(HostSlice::BF16(&data), &mut tensor.buffer)?;
            }
        }
        Ok(tensor)
    }

    fn integers(cuda: &CudaBackend, shape: &[usize], data: &[i32]) -> Outcome<Tensor> {
        let mut tensor = Tensor::new(cuda, DType::I32, shape)?;
        cuda.upload(HostSlice::I32(data), &mut tensor.buffer)?;
        Ok(tensor)
    }

    fn bytes(&self) -> usize {
        self.dtype.size() * self.layout.shape().elements()
    }

    fn view(&self) -> View<'_, Buffer> {
        View { buffer: &self.buffer, dtype: self.dtype, layout: &self.layout }
    }

    fn target(&mut self) -> ViewMut<'_, Buffer> {
        ViewMut { buffer: &mut self.buffer, dtype: self.dtype, layout: &self.layout }
    }
}

/// The median time of a call in seconds.
fn median(cuda: &CudaBackend, mut call: impl FnMut() -> Outcome) -> Outcome<f64> {
    for _ in 0..WARM {
        call()?;
    }
    cuda.settle()?;
    let start = Instant::now();
    call()?;
    cuda.settle()?;
    let calls = ((SECONDS / start.elapsed().as_secs_f64()) as usize).clamp(1, CALLS);
    let mut times = Vec::with_capacity(TIMINGS);
    for _ in 0..TIMINGS {
        let start = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        cuda.settle()?;
        times.push(start.elapsed().as_secs_f64() / calls as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[TIMINGS / 2])
}

/// What a kernel's floor is.
enum Floor {
    /// Every operand once through memory.
    Operands,
    /// So many bytes.
    Bytes(f64),
    /// So many operations.
    Operations(f64),
}

struct Bench {
    cuda: CudaBackend,
    /// Bytes a second that a copy moves, both ways counted.
    bandwidth: f64,
}

impl Bench {
    fn new() -> Outcome<Bench> {
        let cuda = CudaBackend::new(0)?;
        let from = Tensor::new(&cuda, DType::F32, &[COPIED / 4])?;
        let mut to = Tensor::new(&cuda, DType::F32, &[COPIED / 4])?;
        let time = median(&cuda, || Ok(cuda.copy(from.view(), to.target())?))?;
        let bandwidth = 2.0 * COPIED as f64 / time;
        println!("device\t{}", cuda.name());
        println!("copy\t{:.1} µs\t{:.0} GB/s", 1e6 * time, bandwidth / 1e9);
        Ok(Bench { cuda, bandwidth })
    }

    /// Times a fused op and prints its line.
    fn time(&self, name: &str, op: impl Into<Fused>, inputs: &[Tensor], floor: Floor) -> Outcome {
        let (op, cuda): (Fused, _) = (op.into(), &self.cuda);
        let operands: Vec<Operand<'_>> =
            inputs.iter().map(|x| Operand { shape: x.layout.shape(), dtype: x.dtype }).collect();
        let mut outputs = op
            .infer(&operands)?
            .into_iter()
            .map(|(shape, dtype)| Tensor::filled(cuda, dtype, &shape, 1))
            .collect::<Outcome<Vec<_>>>()?;
        let signature: Vec<_> = inputs.iter().map(|x| (x.dtype, x.layout.clone())).collect();
        if !cuda.supports(&op, &Signature { inputs: &signature }) {
            println!("{name}\tno kernel of its own");
            return Ok(());
        }
        let views: Vec<_> = inputs.iter().skip(op.in_place()).map(|x| x.view()).collect();
        let bytes: usize = inputs.iter().chain(&outputs).map(Tensor::bytes).sum();
        let time = median(cuda, || {
            let mut targets: Vec<_> = outputs.iter_mut().map(Tensor::target).collect();
            Ok(cuda.fused(&op, &views, &mut targets)?)
        })?;
        let floor = match floor {
            Floor::Operands => self.share(bytes as f64, time),
            Floor::Bytes(bytes) => self.share(bytes, time),
            Floor::Operations(operations) => format!("{:.1} TFLOP/s", operations / time / 1e12),
        };
        println!("{name}\t{:.1} µs\t{floor}", 1e6 * time);
        Ok(())
    }

    fn share(&self, bytes: f64, time: f64) -> String {
        let rate = bytes / time;
        format!("{:.0} GB/s, {:.0}% of a copy", rate / 1e9, 100.0 * rate / self.bandwidth)
    }

    fn rows(&self, dtype: DType) -> Outcome {
        let (cuda, type_name) = (&self.cuda, dtype.to_string());
        let floats = |shape: &[usize]| Tensor::filled(cuda, dtype, shape, 1);
        let (rows, width) = (16_384, 1024);
        let x = || floats(&[rows, width]);
        let vector = || floats(&[width]);
        let name = |op: &str| format!("{op} {rows}×{width} {type_name}");
        let norm = LayerNorm { epsilon: 1e-5 };
        self.time(&name("layer_norm"), norm, &[x()?, vector()?, vector()?], Floor::Operands)?;
        let gradient = LayerNormGradient { epsilon: 1e-5 };
        self.time(
            &name("layer_norm_gradient"),
            gradient,
            &[x()?, vector()?, x()?],
            Floor::Operands,
        )?;
        let (norm, gradient) = (RmsNorm { epsilon: 1e-6 }, RmsNormGradient { epsilon: 1e-6 });
        self.time(&name("rms_norm"), norm, &[x()?, vector()?], Floor::Operands)?;
        let inputs = [x()?, vector()?, x()?];
        self.time(&name("rms_norm_gradient"), gradient, &inputs, Floor::Operands)?;
        self.time(&name("softmax"), Softmax { log: false }, &[x()?], Floor::Operands)?;
        self.time(&name("relu"), Activate(Activation::Relu), &[x()?], Floor::Operands)?;
        let mask = DropoutMask { rate: 0.1, stream: 7 };
        let key = || Tensor::integers(cuda, &[3], &[1, 2, 3]);
        let dropout = Dropout { mask, residual: false };
        self.time(&name("dropout"), dropout, &[x()?, key()?], Floor::Operands)?;
        let ids = Tensor::filled(cuda, DType::I32, &[rows], 32_000)?;
        let embedding = Embedding { scale: 32.0, ..Embedding::default() };
        let bytes = (2 * rows * width * dtype.size()) as f64;
        let table = floats(&[32_000, width])?;
        self.time(&name("embedding"), embedding, &[ids, table], Floor::Bytes(bytes))?;
        let (t, v) = (4096, 32_000);
        let logits = || floats(&[t, v]);
        let targets = Tensor::filled(cuda, DType::I32, &[t], v)?;
        let loss = CrossEntropy { smoothing: 0.1 };
        let name = format!("cross_entropy {t}×{v} {type_name}");
        self.time(&name, loss, &[logits()?, targets], Floor::Operands)?;
        let name = format!("top_log_probabilities 256×{v} {type_name}, 8 best");
        let best = TopLogProbabilities { k: 8 };
        self.time(&name, best, &[floats(&[256, v])?, floats(&[v])?], Floor::Operands)
    }

    fn adam(&self) -> Outcome {
        let n = 64 << 20;
        let floats = |shape: &[usize]| Tensor::filled(&self.cuda, DType::F32, shape, 1);
        let inputs = [
            floats(&[n])?,
            floats(&[n])?,
            floats(&[n])?,
            floats(&[n])?,
            floats(&[3])?,
            floats(&[])?,
        ];
        let adam = Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.0 };
        // Gradient once; parameter and moments there and back.
        self.time("adam 64 Mi f32", adam, &inputs, Floor::Bytes(28.0 * n as f64))
    }

    /// `batch` sequences of `length` queries and keys; with the biases of T5 or without.
    fn attention(
        &self,
        dtype: DType,
        size: usize,
        (batch, length): (usize, usize),
        causal: bool,
        biased: bool,
    ) -> Outcome {
        let (cuda, heads) = (&self.cuda, 16);
        let tokens = batch * length;
        let x = || Tensor::filled(cuda, dtype, &[tokens, heads, size], 1);
        let offsets: Vec<i32> = (0..=batch).map(|s| (s * length) as i32).collect();
        let ranges: Vec<i32> =
            (0..batch).flat_map(|s| [(s * length) as i32, length as i32]).collect();
        let offsets = || Tensor::integers(cuda, &[batch + 1], &offsets);
        let ranges = || Tensor::integers(cuda, &[batch, 2], &ranges);
        let scale = (size as f64).powf(-0.5);
        let bias = biased.then_some(RelativeBias {
            buckets: 32,
            max_distance: 128,
            bidirectional: !causal,
        });
        let keys = KeySet { causal, bias, ..KeySet::default() };
        let attention = Attention { scale, keys, ..Attention::default() };
        let biases = bias.map(|_| Tensor::filled(cuda, DType::F32, &[32, heads], 1)).transpose()?;
        let share = if causal { 0.5 } else { 1.0 };
        let product = 2.0 * (tokens * length * heads * size) as f64 * share;
        let mode = if causal { "causal" } else { "full" };
        let mode = format!("{mode}{}", if biased { ", biased" } else { "" });
        let name = format!("attention {batch}×{length}, {heads} heads of {size}, {mode} {dtype}");
        let mut inputs = vec![x()?, x()?, x()?, offsets()?, ranges()?];
        inputs.extend(biases);
        self.time(&name, attention, &inputs, Floor::Operations(2.0 * product))?;
        inputs.extend([x()?, Tensor::filled(cuda, DType::F32, &[tokens, heads], 1)?, x()?]);
        let name = format!("{name}, gradient");
        self.time(&name, AttentionGradient(attention), &inputs, Floor::Operations(5.0 * product))
    }

    fn decode(&self, dtype: DType, width: usize) -> Outcome {
        let (cuda, n, heads, size) = (&self.cuda, 256, 16, 64);
        let rows = n * width;
        let cache = || Tensor::filled(cuda, dtype, &[rows, heads, size], 1);
        let query = Tensor::filled(cuda, dtype, &[n, heads, size], 1)?;
        let table = Tensor::filled(cuda, DType::I32, &[n, width], rows)?;
        let lengths = Tensor::integers(cuda, &[n], &vec![width as i32; n])?;
        let keys = KeySet { lookup: KeyLookup::Table, ..KeySet::default() };
        let attention = Attention { scale: 0.125, keys, ..Attention::default() };
        let name = format!(
            "attention by a table, {n} hypotheses, {width} keys, {heads} heads of {size} {dtype}"
        );
        self.time(&name, attention, &[query, cache()?, cache()?, table, lengths], Floor::Operands)
    }

    /// The general kernels: a causal window and a cap, four query heads for each key head.
    fn general_attention(&self, dtype: DType, (batch, length): (usize, usize)) -> Outcome {
        let (cuda, heads, kv_heads, size, window) = (&self.cuda, 16, 4, 128, 1024);
        let tokens = batch * length;
        let x = |heads| Tensor::filled(cuda, dtype, &[tokens, heads, size], 1);
        let offsets: Vec<i32> = (0..=batch).map(|s| (s * length) as i32).collect();
        let ranges: Vec<i32> =
            (0..batch).flat_map(|s| [(s * length) as i32, length as i32]).collect();
        let keys = KeySet { causal: true, window: Some(window), ..KeySet::default() };
        let scale = (size as f64).powf(-0.5);
        let attention = Attention { scale, soft_cap: Some(50.0), keys, ..Attention::default() };
        let inputs = [
            x(heads)?,
            x(kv_heads)?,
            x(kv_heads)?,
            Tensor::integers(cuda, &[batch + 1], &offsets)?,
            Tensor::integers(cuda, &[batch, 2], &ranges)?,
        ];
        let seen: usize = (0..length).map(|i| (i + 1).min(window)).sum();
        let operations = 4.0 * (batch * seen * heads * size) as f64;
        let name = format!(
            "attention {batch}×{length}, {heads} heads of {size} in groups of 4, window {window}, cap {dtype}"
        );
        self.time(&name, attention, &inputs, Floor::Operations(operations))
    }

    /// A step of merged self- and cross-attention: 4 hypotheses of each of 64 sentences.
    fn merged_decode(&self, dtype: DType, width: usize) -> Outcome {
        let (cuda, n, sentences, heads, kv_heads, size) = (&self.cuda, 256, 64, 16, 4, 128);
        let rows = n * width;
        let cache = |rows| Tensor::filled(cuda, dtype, &[rows, kv_heads, size], 1);
        let offsets: Vec<i32> = (0..=sentences).map(|s| (4 * s) as i32).collect();
        let ranges: Vec<i32> =
            (0..sentences).flat_map(|s| [(s * width) as i32, width as i32]).collect();
        let inputs = [
            Tensor::filled(cuda, dtype, &[n, heads, size], 1)?,
            cache(rows)?,
            cache(rows)?,
            Tensor::filled(cuda, DType::I32, &[n, width], rows)?,
            Tensor::integers(cuda, &[n], &vec![width as i32; n])?,
            cache(sentences * width)?,
            cache(sentences * width)?,
            Tensor::integers(cuda, &[sentences + 1], &offsets)?,
            Tensor::integers(cuda, &[sentences, 2], &ranges)?,
        ];
        let keys = KeySet { lookup: KeyLookup::Table, ..KeySet::default() };
        let more_keys = Some(KeySet::default());
        let attention = Attention { scale: 0.09, keys, more_keys, ..Attention::default() };
        let name = format!(
            "attention by a table and by ranges, {n} hypotheses, 2·{width} keys, {heads} heads of {size} in \
             groups of 4 {dtype}"
        );
        self.time(&name, attention, &inputs, Floor::Operands)
    }

    fn linear(&self, dtype: DType, m: usize, n: usize, k: usize) -> Outcome {
        let floats = |shape: &[usize]| Tensor::filled(&self.cuda, dtype, shape, 1);
        let linear = Linear { bias: true, ..Linear::default() };
        let inputs = [floats(&[m, k])?, floats(&[n, k])?, floats(&[n])?];
        let operations = 2.0 * (m * n * k) as f64;
        self.time(
            &format!("linear {m}×{k}·{k}×{n} {dtype}"),
            linear,
            &inputs,
            Floor::Operations(operations),
        )
    }
}

fn main() -> Outcome {
    let bench = Bench::new()?;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        bench.rows(dtype)?;
    }
    bench.adam()?;
    for (m, n, k) in [(4096, 4096, 1024), (256, 4096, 1024), (16, 4096, 1024)] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            bench.linear(dtype, m, n, k)?;
        }
    }
    for width in [32, 128, 512] {
        for dtype in [DType::F32, DType::F16] {
            bench.decode(dtype, width)?;
            bench.merged_decode(dtype, width)?;
        }
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        bench.general_attention(dtype, (4, 4096))?;
    }
    for biased in [false, true] {
        bench.attention(DType::F32, 64, (32, 512), false, biased)?;
    }
    for size in [64, 128] {
        for (batch, length) in [(32, 512), (4, 4096)] {
            for causal in [false, true] {
                for dtype in [DType::F16, DType::BF16] {
                    bench.attention(dtype, size, (batch, length), causal, false)?;
                }
                bench.attention(DType::BF16, size, (batch, length), causal, true)?;
            }
        }
    }
    Ok(())
}
