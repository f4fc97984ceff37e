//! Host code as programs with a GPU have it, by `cudarc`, against the fake driver.

use cudarc::driver::{CudaContext, CudaStream, DriverError, LaunchConfig, PushKernelArg, sys};
use cudarc::nvrtc::Ptx;
use std::sync::Arc;
use tfm_fake_driver::{Installed, has_driver, restart_with_driver, with_driver};

const PTX: &str = include_str!("../../tfm-ptx-emu/tests/fixtures/kernels.ptx");
fn stream() -> Result<Arc<CudaStream>, DriverError> {
    let context = CudaContext::new(0)?;
    // SAFETY: nothing is allocated yet, and one stream does all the work that follows.
    unsafe { context.disable_event_tracking() };
    context.new_stream()
}

fn shape(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

#[test]
fn memory_modules_and_launches() {
    with_driver("memory_modules_and_launches", &[&[]], || {
        let stream = stream().unwrap();
        let context = stream.context().clone();
        assert_eq!(context.name().unwrap(), "PTX interpreter");
        let module = context.load_module(Ptx::from_src(PTX)).unwrap();
        assert!(module.load_function("missing").is_err());
        let saxpy = module.load_function("saxpy").unwrap();
        let (x, y): (Vec<f32>, Vec<f32>) = (0..1000).map(|i| (i as f32, 1.0)).unzip();
        let x = stream.clone_htod(&x).unwrap();
        let mut y = stream.clone_htod(&y).unwrap();
        let (a, n) = (2.0f32, 1000i32);
        let mut launch = stream.launch_builder(&saxpy);
        launch.arg(&x).arg(&mut y).arg(&a).arg(&n);
        // SAFETY: the arguments are those of the kernel.
        unsafe { launch.launch(shape(4, 256)) }.unwrap();
        let expected: Vec<f32> = (0..1000).map(|i| 2.0 * i as f32 + 1.0).collect();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), expected);

        let zeros = stream.alloc_zeros::<f32>(10).unwrap();
        let mut copy = stream.clone_htod(&[1.0f32; 10]).unwrap();
        stream.memcpy_dtod(&zeros, &mut copy).unwrap();
        assert_eq!(stream.clone_dtoh(&copy).unwrap(), [0.0; 10]);
        assert!(
            context
                .load_module(Ptx::from_src(".version 7.0 .target sm_80 .entry k() { nonsense; }"))
                .is_err()
        );
    });
}

#[test]
fn a_captured_graph_is_replayed() {
    with_driver(
        "a_captured_graph_is_replayed",
        &[&[("TFM_FAKE_SEED", "7"), ("TFM_FAKE_LAZY", "1")]],
        || {
            let stream = stream().unwrap();
            let module = stream.context().load_module(Ptx::from_src(PTX)).unwrap();
            let saxpy = module.load_function("saxpy").unwrap();
            let x = stream.clone_htod(&[1.0f32; 64]).unwrap();
            let mut y = stream.clone_htod(&[0.0f32; 64]).unwrap();
            stream
                .begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
                .unwrap();
            let (a, n) = (3.0f32, 64i32);
            for _ in 0..2 {
                let mut launch = stream.launch_builder(&saxpy);
                launch.arg(&x).arg(&mut y).arg(&a).arg(&n);
                // SAFETY: the arguments are those of the kernel.
                unsafe { launch.launch(shape(1, 64)) }.unwrap();
            }
            let flags =
                sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
            let graph = stream.end_capture(flags).unwrap().expect("something was captured");
            assert_eq!(stream.clone_dtoh(&y).unwrap(), [0.0; 64], "nothing has run yet");
            for replays in 1..4 {
                graph.launch().unwrap();
                assert_eq!(stream.clone_dtoh(&y).unwrap(), [6.0 * replays as f32; 64]);
            }
        },
    );
}

#[test]
fn a_fault_of_a_kernel_is_a_failed_launch_and_stays() {
    let this = "a_fault_of_a_kernel_is_a_failed_launch_and_stays";
    if !has_driver() {
        if !cfg!(target_os = "linux") {
            return println!("skipped: the fake driver is a libcuda.so");
        }
        let output = restart_with_driver(&Installed::new().unwrap(), this, &[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("saxpy, PTX line") && text.contains("are not allocated"), "{text}");
        return;
    }
    let stream = stream().unwrap();
    let module = stream.context().load_module(Ptx::from_src(PTX)).unwrap();
    let saxpy = module.load_function("saxpy").unwrap();
    let x = stream.clone_htod(&[1.0f32; 10]).unwrap();
    let mut y = stream.clone_htod(&[1.0f32; 10]).unwrap();
    // One element more than there are.
    let (a, n) = (1.0f32, 11i32);
    let mut launch = stream.launch_builder(&saxpy);
    launch.arg(&x).arg(&mut y).arg(&a).arg(&n);
    // SAFETY: the arguments have the kernel's types. The test is about what the kernel does with
    // them.
    let error = unsafe { launch.launch(shape(1, 32)) }.unwrap_err();
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_LAUNCH_FAILED);
    assert!(stream.synchronize().is_err());
}

#[test]
fn memory_ends() {
    with_driver("memory_ends", &[&[("TFM_FAKE_MEMORY", "1000000")]], || {
        let stream = stream().unwrap();
        let half = stream.alloc_zeros::<u8>(600_000).unwrap();
        let error = stream.alloc_zeros::<u8>(600_000).unwrap_err();
        assert_eq!(error.0, sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        drop(half);
        stream.alloc_zeros::<u8>(600_000).unwrap();
    });
}
