//! The laws of every backend on the CUDA backend: host code and kernels as they are shipped, over the fake driver.

use tfm_core::testing::{Candidate, laws};
use tfm_cuda::CudaBackend;
use tfm_fake_driver::{SCHEDULES, has_driver, with_driver};

#[test]
fn all_laws() {
    with_driver("all_laws", &SCHEDULES[..2], || {
        let backend = CudaBackend::new(0).expect("the fake driver has a device");
        let config = laws::Config::from_environment();
        // An interpreted kernel takes a thousand times as long as one on the CPU.
        let config = laws::Config { scale: 0.01 * config.scale, ..config };
        laws::assert_all(&Candidate::new(backend), &config);
    });
}

/// Where there is no driver that is said, in one line and without a panic.
#[test]
fn no_driver_is_an_error() {
    if has_driver() {
        return;
    }
    match CudaBackend::new(0) {
        Ok(backend) => {
            println!("skipped: there is a driver ({})", tfm_core::Backend::name(&backend))
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("cuda: ") && !text.contains('\n'), "{text}");
        }
    }
    let missing = CudaBackend::new(1000).map(|_| ()).unwrap_err().to_string();
    assert!(
        missing.contains("no CUDA driver found") || missing.contains("there is no device 1000"),
        "{missing}"
    );
}
