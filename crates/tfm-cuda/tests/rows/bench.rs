//! What the tests share: operands in device memory, results whose memory nobody has written before,
//! and their distance from f64.

use tfm_core::backend::{View, ViewMut};
use tfm_core::fused::Fused;
use tfm_core::reference::tensor_from_f64;
use tfm_core::testing::Data;
use tfm_core::{Backend, DType, Layout, Shape, Tensor};
use tfm_cuda::{Buffer, CudaBackend};
use tfm_fake_driver::{SCHEDULES, with_driver};

pub(crate) const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Runs a test with a device, under every schedule.
pub(crate) fn everywhere(test: &str, body: impl FnOnce(&CudaBackend)) {
    with_driver(test, &SCHEDULES, || {
        body(&CudaBackend::new(0).expect("the fake driver has a device"));
    });
}

/// A tensor in device memory.
pub(crate) struct Operand {
    pub(crate) buffer: Buffer,
    pub(crate) dtype: DType,
    pub(crate) layout: Layout,
    /// The values, rounded to the type.
    pub(crate) values: Vec<f64>,
}

impl Operand {
    pub(crate) fn view(&self) -> View<'_, Buffer> {
        View { buffer: &self.buffer, dtype: self.dtype, layout: &self.layout }
    }

    pub(crate) fn row(&self, row: usize) -> &[f64] {
        let width = self.layout.shape().last_extent();
        &self.values[row * width..][..width]
    }
}

/// Rows that begin at element `offset`, with `gap` elements of NaN between them.
pub(crate) fn rows(
    cuda: &CudaBackend,
    dtype: DType,
    shape: &[usize],
    values: &[f64],
    [offset, gap]: [usize; 2],
) -> Operand {
    let shape = Shape::new(shape);
    let width = shape.last_extent().max(1);
    let stride = width + gap;
    let rounded = tensor_from_f64(values.iter().copied(), dtype, &shape);
    let mut host = vec![f64::NAN; offset];
    for row in rounded.to_f64().chunks(width) {
        host.extend(row);
        host.extend(vec![f64::NAN; gap]);
    }
    let host = tensor_from_f64(host.iter().copied(), dtype, &Shape::from([host.len()]));
    let mut buffer = cuda.allocate(dtype, host.shape()[0]).unwrap();
    cuda.upload(host.as_slice(), &mut buffer).unwrap();
    let mut strides = vec![1; shape.len()];
    if shape.len() == 2 {
        strides[0] = stride;
    }
    let layout = Layout::from_parts(shape, &strides, offset);
    Operand { buffer, dtype, layout, values: rounded.to_f64() }
}

/// Rows without gaps.
pub(crate) fn packed(
    cuda: &CudaBackend,
    dtype: DType,
    shape: &[usize],
    values: &[f64],
    offset: usize,
) -> Operand {
    rows(cuda, dtype, shape, values, [offset, 0])
}

/// Random numbers around 0.
pub(crate) fn noise(seed: u64, n: usize, scale: f64) -> Vec<f64> {
    let mut data = Data::new(seed);
    (0..n).map(|_| data.number(scale)).collect()
}

/// The results of an op in memory that was NaN (integers: −7) before. The first `offset` elements
/// of the memory must stay so.
pub(crate) fn outputs(
    cuda: &CudaBackend,
    results: &[(DType, &[usize])],
    offset: usize,
    run: impl FnOnce(&mut [ViewMut<'_, Buffer>]),
) -> Vec<Tensor> {
    let poison = |dtype: DType| if dtype.is_float() { f64::NAN } else { -7.0 };
    let mut memory: Vec<(Buffer, DType, Layout)> = results
        .iter()
        .map(|(dtype, shape)| {
            let layout = Layout::contiguous(&Shape::new(shape));
            let n = layout.shape().elements() + offset;
            let mut buffer = cuda.allocate(*dtype, n).unwrap();
            let all = Layout::contiguous(&Shape::from([n]));
            let view = ViewMut { buffer: &mut buffer, dtype: *dtype, layout: &all };
            cuda.fill(poison(*dtype), view).unwrap();
            let layout = Layout::from_parts(layout.shape().clone(), layout.strides(), offset);
            (buffer, *dtype, layout)
        })
        .collect();
    let mut views: Vec<ViewMut<'_, Buffer>> = memory
        .iter_mut()
        .map(|(buffer, dtype, layout)| ViewMut { buffer, dtype: *dtype, layout })
        .collect();
    run(&mut views);
    let read = |(buffer, dtype, layout): &(Buffer, DType, Layout)| {
        let before = Layout::contiguous(&Shape::from([offset]));
        let before = cuda.download(View { buffer, dtype: *dtype, layout: &before }).unwrap();
        let untouched = |x: &f64| x.to_bits() == poison(*dtype).to_bits() || x.is_nan();
        assert!(before.to_f64().iter().all(untouched), "written before the result: {before:?}");
        cuda.download(View { buffer, dtype: *dtype, layout }).unwrap()
    };
    memory.iter().map(read).collect()
}

/// The results of a fused op.
pub(crate) fn fused(
    cuda: &CudaBackend,
    op: impl Into<Fused>,
    inputs: &[&Operand],
    results: &[(DType, &[usize])],
    offset: usize,
) -> Vec<Tensor> {
    let op = op.into();
    let signature: Vec<_> = inputs.iter().map(|x| (x.dtype, x.layout.clone())).collect();
    let signature = tfm_core::backend::Signature { inputs: &signature };
    assert!(cuda.supports(&op, &signature), "{op:?} is not computed by a kernel");
    let inputs: Vec<_> = inputs.iter().map(|x| x.view()).collect();
    outputs(cuda, results, offset, |views| cuda.fused(&op, &inputs, views).unwrap())
}

/// The allowed ‖Δ‖/‖reference‖ of results in this type.
pub(crate) fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 1e-3,
        _ => 5e-3,
    }
}

/// Checks ‖Δ‖ ≤ tolerance·‖reference‖; NaN fails.
pub(crate) fn assert_near(what: &str, got: &Tensor, want: &[f64], tolerance: f64) {
    let got = got.to_f64();
    assert_eq!(got.len(), want.len(), "{what}");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
    let size = norm(&mut want.iter().copied());
    assert!(error <= tolerance * size + 1e-30, "{what}: {error:e} of {size:e}");
}
