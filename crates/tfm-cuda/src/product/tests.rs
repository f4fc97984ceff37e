//! Products over the fake driver and the fake cuBLASLt. The loader looks for libraries only where
//! the environment said at the start of the process. So each test starts this binary again.

use super::*;
use cudarc::driver::sys;
use tfm_core::{Backend, HostSlice, Shape, TensorData};
use tfm_fake_driver::{Installed, has_driver, restart_with_driver};

/// Succeeds in the process that has the fake driver and cuBLASLt. Elsewhere it starts that process
/// for this test, and returns what the process wrote to stderr.
fn inside(test: &str) -> Result<(), Option<String>> {
    if has_driver() {
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        return Err(None);
    }
    let driver = Installed::new().unwrap();
    driver.add("libtfm_fake_cublaslt.so", "libcublasLt.so").unwrap();
    let output = restart_with_driver(&driver, &format!("product::tests::{test}"), &[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !text.contains("refused"), "{text}");
    Err(Some(text))
}

fn upload(cuda: &CudaBackend, values: &[f32]) -> Buffer {
    let mut buffer = cuda.allocate(DType::F32, values.len()).unwrap();
    cuda.upload(HostSlice::F32(values), &mut buffer).unwrap();
    buffer
}

fn view<'a>(buffer: &'a Buffer, layout: &'a Layout) -> View<'a, Buffer> {
    View { buffer, dtype: DType::F32, layout }
}

fn layout(shape: [usize; 2]) -> Layout {
    Layout::contiguous(&Shape::new(&shape))
}

/// Computes [m, 2]·[2, 3], where every element of the result is 2.
fn multiply(cuda: &CudaBackend, a: &Buffer, m: usize, out: &mut Buffer) {
    let b = upload(cuda, &[1.0; 6]);
    let (a_layout, b_layout, to) = (layout([m, 2]), layout([2, 3]), layout([m, 3]));
    let (a, b) = (view(a, &a_layout), view(&b, &b_layout));
    let dst = ViewMut { buffer: out, dtype: DType::F32, layout: &to };
    cuda.matmul(a, b, dst).unwrap();
}

fn content(cuda: &CudaBackend, buffer: &Buffer, n: usize) -> Vec<f32> {
    let all = Layout::contiguous(&Shape::new(&[n]));
    match cuda.download(view(buffer, &all)).unwrap().data() {
        TensorData::F32(x) => x.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_algorithm_is_looked_up_once_a_problem() {
    match inside("an_algorithm_is_looked_up_once_a_problem") {
        Err(None) => return,
        Err(Some(text)) => {
            return assert!(text.contains("12 products by 3 lookups"), "{text}");
        }
        Ok(()) => {}
    }
    let cuda = CudaBackend::new(0).unwrap();
    let a = upload(&cuda, &[1.0; 6]);
    for _ in 0..4 {
        for m in 1..4 {
            let mut out = cuda.allocate(DType::F32, 3 * m).unwrap();
            multiply(&cuda, &a, m, &mut out);
            assert_eq!(content(&cuda, &out, 3 * m), vec![2.0; 3 * m]);
        }
    }
}

#[test]
fn a_product_is_recorded_in_a_graph() {
    if inside("a_product_is_recorded_in_a_graph").is_err() {
        return;
    }
    let cuda = CudaBackend::new(0).unwrap();
    let mut a = upload(&cuda, &[1.0; 4]);
    let b = upload(&cuda, &[1.0; 6]);
    let mut out = upload(&cuda, &[0.0; 6]);
    let (a_layout, b_layout, to) = (layout([2, 2]), layout([2, 3]), layout([2, 3]));
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    cuda.stream().begin_capture(mode).unwrap();
    let dst = ViewMut { buffer: &mut out, dtype: DType::F32, layout: &to };
    cuda.matmul(view(&a, &a_layout), view(&b, &b_layout), dst).unwrap();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = cuda.stream().end_capture(flags).unwrap().expect("something was recorded");
    assert_eq!(content(&cuda, &out, 6), [0.0; 6], "nothing has run yet");
    for x in [1.0f32, 3.0] {
        cuda.upload(HostSlice::F32(&[x; 4]), &mut a).unwrap();
        graph.launch().unwrap();
        assert_eq!(content(&cuda, &out, 6), [2.0 * x; 6]);
    }
}

/// The library, together with what is left to do after it, computes the same as our own kernels.
#[test]
fn the_library_and_our_kernels_agree() {
    if inside("the_library_and_our_kernels_agree").is_err() {
        return;
    }
    let cuda = CudaBackend::new(0).unwrap();
    let activations = Activation::ALL.into_iter().map(Some).chain([None]);
    let cases: Vec<_> = activations
        .flat_map(|f| [f; 4].into_iter().enumerate())
        .map(|(i, f)| (f, i % 2 == 1, i / 2 == 1))
        .collect();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let random = |seed: i32, n: usize| {
            let draw = |i| 2.0 * tfm_core::philox::uniform([seed, 0, 0], 0, i) - 1.0;
            let floats = upload(&cuda, &(0..n).map(draw).collect::<Vec<f32>>());
            let mut buffer = cuda.allocate(dtype, n).unwrap();
            let all = Layout::contiguous(&Shape::new(&[n]));
            let dst = ViewMut { buffer: &mut buffer, dtype, layout: &all };
            cuda.copy(view(&floats, &all), dst).unwrap();
            buffer
        };
        let (m, k, n) = (5, 70, 11);
        let (x, y) = (random(1, 1000), random(2, 1000));
        let (bias_data, residual_data) = (random(3, n), random(4, 100));
        for (i, (activation, bias, residual)) in cases.iter().enumerate() {
            // Row-major, column-major, and rows with an offset and gaps between them.
            let a = [[k, 1], [1, m], [k + 3, 1]][i % 3];
            let b = [[1, k], [n, 1], [1, k + 1]][i / 2 % 3];
            let a_layout = Layout::from_parts([m, k].into(), &a, i % 5);
            let b_layout = Layout::from_parts([k, n].into(), &b, i % 7);
            let bias_layout = Layout::contiguous(&Shape::new(&[n]));
            let residual_layout = Layout::from_parts([m, n].into(), &[n + i % 2 * 4, 1], 0);
            let seen = |buffer, layout| View { buffer, dtype, layout };
            let product = Product {
                a: seen(&x, &a_layout),
                b: seen(&y, &b_layout),
                epilogue: Epilogue {
                    bias: bias.then(|| seen(&bias_data, &bias_layout)),
                    activation: *activation,
                    residual: residual.then(|| seen(&residual_data, &residual_layout)),
                },
            };
            let to = layout([m, n]);
            let results = [true, false].map(|library| {
                let mut out = cuda.allocate(dtype, m * n).unwrap();
                let mut dst = ViewMut { buffer: &mut out, dtype, layout: &to };
                if library {
                    assert!(by_cublaslt(&cuda, &product, &mut dst, None).unwrap());
                } else {
                    by_own_kernel(&cuda, &product, &mut dst, &[]).unwrap();
                }
                let mut floats = cuda.allocate(DType::F32, m * n).unwrap();
                let dst = ViewMut { buffer: &mut floats, dtype: DType::F32, layout: &to };
                let computed = View { buffer: &out, dtype, layout: &to };
                cuda.copy(computed, dst).unwrap();
                content(&cuda, &floats, m * n)
            });
            // The bound of two roundings to the type, of numbers up to 16.
            let bound = match dtype {
                DType::F32 => 1e-5,
                DType::F16 => 2e-2,
                _ => 2e-1,
            };
            for (library, own) in results[0].iter().zip(&results[1]) {
                let error = (library - own).abs();
                assert!(
                    error <= bound,
                    "{dtype} {activation:?} {bias} {residual}: {library} {own}"
                );
            }
        }
    }
}
