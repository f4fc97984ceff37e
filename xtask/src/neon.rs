//! Tests the CPU backend's NEON kernels, in an emulator where this machine is not an ARM.

use crate::project::{self, cargo};
use crate::report::Verdict;
use std::path::Path;
use std::process::{Command, Stdio};

/// This target needs no cross compiler: it brings its own C library, and Rust brings the linker.
const TARGET: &str = "aarch64-unknown-linux-musl";
/// The emulator's names in Debian and elsewhere.
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
/// The share of the laws' cases that an emulator has time for.
const CASES: &str = "0.05";

/// Runs the tests of the kernels and the laws, with NEON and its dot products.
pub(crate) fn check() -> Verdict {
    if cfg!(target_arch = "aarch64") {
        return Verdict::Skipped("the tests ran on it".into());
    }
    let Some(emulator) = EMULATORS.into_iter().find(|name| runs(name)) else {
        return Verdict::Skipped("no qemu-aarch64; Debian's package is qemu-user-static".into());
    };
    if let Err(why) = standard_library() {
        return Verdict::Skipped(why);
    }
    let run = |arguments: &[&str]| {
        let mut test = cargo();
        test.args(["test", "--release", "--locked", "--target", TARGET, "--package", "tfm-cpu"]);
        test.args(arguments).env("TFM_CASES", CASES);
        test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
        let runner = format!("{emulator} -cpu max");
        test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER", runner);
        project::run(&mut test)
    };
    run(&["--lib"]).and_then(|()| run(&["--test", "laws", "neon"])).into()
}

fn runs(program: &str) -> bool {
    let probe = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// Installs the target's standard library unless it is there. An error says why it cannot be had.
fn standard_library() -> Result<(), String> {
    let sysroot = project::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let installed = || Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).exists();
    if installed() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    let added = add.args(["target", "add", TARGET]).status();
    match added {
        Ok(status) if status.success() && installed() => Ok(()),
        _ => Err(format!("no standard library for {TARGET}; rustup target add {TARGET}")),
    }
}
