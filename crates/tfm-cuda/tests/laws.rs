//! The laws of all backends on the CUDA backend: host code and kernels as they are shipped, over
//! the fake driver, with and without the fake cuBLASLt.

use tfm_core::testing::{Candidate, laws};
use tfm_cuda::CudaBackend;
use tfm_fake_driver::{Installed, has_driver, restart_with_driver};

/// Set where there is a device; the laws then run on it with their full number of cases.
const DEVICE: &str = "TFM_CUDA_DEVICE";

#[test]
fn all_laws() {
    if has_driver() || std::env::var_os(DEVICE).is_some() {
        let backend = || CudaBackend::new(0).expect("there is a device");
        let config = laws::Config::from_environment();
        if has_driver() {
            // An interpreted kernel takes a thousand times as long as a kernel on the CPU.
            let config = laws::Config { scale: 0.04 * config.scale, ..config };
            return laws::assert_all(&Candidate::new(backend()), &config);
        }
        laws::assert_all(&Candidate::new(backend().with_own_products()), &config);
        // The real cuBLASLt chooses the order of its sums by the number of rows.
        return laws::assert_all(&Candidate::new(backend()).with_bits_by_company(), &config);
    }
    if !cfg!(target_os = "linux") {
        return println!("skipped: the fake driver is a libcuda.so");
    }
    for (seed, lazy, cublaslt) in [("1", "0", true), ("2", "1", false), ("3", "1", true)] {
        let driver = Installed::new().unwrap();
        if cublaslt {
            driver.add("libtfm_fake_cublaslt.so", "libcublasLt.so").unwrap();
        }
        let schedule = [("TFM_FAKE_SEED", seed), ("TFM_FAKE_LAZY", lazy)];
        let output = restart_with_driver(&driver, "all_laws", &schedule);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "seed {seed}: {text}");
        // Otherwise our own kernels would hide what the library refuses.
        assert!(!text.contains("fake cuBLASLt: refused"), "{text}");
        assert_eq!(text.contains("fake cuBLASLt: "), cublaslt, "{text}");
    }
}

/// Without a driver, the error is one line, and nothing panics.
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
