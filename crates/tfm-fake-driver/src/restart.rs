//! Tests over the fake driver. The loader looks for libraries only where the environment said at
//! the start of the process. So a test starts its own executable again.

use crate::Installed;
use std::process::{Command, Output};

/// Set in the process that has the driver.
const INSIDE: &str = "TFM_FAKE_DRIVER_INSIDE";

/// Set where there is a device; tests over the fake driver then run on it.
const ON_DEVICE: &str = "TFM_CUDA_DEVICE";

/// The schedules under which a test should hold: three seeds, each with eager and with lazy
/// asynchronous copies.
pub const SCHEDULES: [&[(&str, &str)]; 6] = [
    &[("TFM_FAKE_SEED", "1"), ("TFM_FAKE_LAZY", "0")],
    &[("TFM_FAKE_SEED", "2"), ("TFM_FAKE_LAZY", "1")],
    &[("TFM_FAKE_SEED", "3"), ("TFM_FAKE_LAZY", "0")],
    &[("TFM_FAKE_SEED", "1"), ("TFM_FAKE_LAZY", "1")],
    &[("TFM_FAKE_SEED", "2"), ("TFM_FAKE_LAZY", "0")],
    &[("TFM_FAKE_SEED", "3"), ("TFM_FAKE_LAZY", "1")],
];

/// Whether [`restart_with_driver`] has started this process, so that it has the driver.
pub fn has_driver() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs `body` in processes with the driver, one for each environment, and checks that it passes.
/// `test` is the full name of the calling test. With `TFM_CUDA_DEVICE` set, `body` runs in this
/// process, on that device. On systems other than Linux nothing runs.
///
/// # Panics
/// A process fails. The message has what the process printed.
pub fn with_driver(test: &str, environments: &[&[(&str, &str)]], body: impl FnOnce()) {
    if has_driver() || std::env::var_os(ON_DEVICE).is_some() {
        return body();
    }
    if !cfg!(target_os = "linux") {
        return println!("skipped: the fake driver is a libcuda.so");
    }
    let driver = Installed::new().expect("the library is copied");
    for environment in environments {
        let output = restart_with_driver(&driver, test, environment);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
        assert!(output.status.success() && passed, "{environment:?}: {text}");
    }
}

/// Starts this executable again to run one of its tests, in a process that finds the driver.
///
/// # Panics
/// The process cannot be started.
pub fn restart_with_driver(driver: &Installed, test: &str, environment: &[(&str, &str)]) -> Output {
    let this = std::env::current_exe().expect("a test is an executable");
    let mut command = Command::new(this);
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    command.envs(environment.iter().copied());
    driver.apply(&mut command).output().expect("the process starts")
}
