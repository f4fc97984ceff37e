//! `cargo xtask gpu-bundle`: what a machine with a GPU and no Rust needs to check the CUDA backend and to time it.

use crate::project::{self, Outcome, cargo, read, root};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// More bytes than this are not carried to a borrowed machine.
const MOST_BYTES: u64 = 64 << 20;
/// What a test reads that is to run on a device: without it, it would run the interpreter.
const ON_DEVICE: &str = "TFM_CUDA_DEVICE";
/// Files that go in as they are.
const FILES: &[(&str, &str)] = &[
    ("xtask/src/gpu_bundle/run.sh", "run.sh"),
    ("xtask/python/cuda_peers.py", "cuda_peers.py"),
    ("crates/tfm/tests/fixtures/bundled.en", "source.en"),
];

/// Builds the CUDA backend's tests and benchmarks into one folder.
#[derive(clap::Args)]
pub(crate) struct GpuBundle {
    /// The folder; what it held is replaced
    #[arg(short, long, default_value = "target/gpu-bundle")]
    output: PathBuf,
}

/// Builds, strips and copies.
pub(crate) fn run(arguments: &GpuBundle) -> Outcome {
    let mut programs = Vec::new();
    for (name, program) in built(&["test", "--no-run", "--package", "tfm-cuda"])? {
        if on_device(&name)? {
            programs.push((name, program));
        }
    }
    let commands = ["build", "--bins", "--package", "tfm", "--package", "tfm-benches"];
    let commands = built(&[&commands[..], &["--features", "tfm/cuda"]].concat())?;
    programs.extend(commands.into_iter().filter(|(name, _)| name == "tfm" || name == "cuda_speed"));

    let folder = root().join(&arguments.output);
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for (name, program) in &programs {
        let target = folder.join(name);
        let mut strip = Command::new("strip");
        project::run(strip.arg("--strip-all").arg(program).arg("-o").arg(&target))?;
        without_build_paths(&target)?;
    }
    for (source, name) in FILES {
        std::fs::copy(root().join(source), folder.join(name)).map_err(failed)?;
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        bytes += entry.and_then(|entry| entry.metadata()).map_err(failed)?.len();
    }
    if bytes > MOST_BYTES {
        return Err(format!("{}: {bytes} bytes, at most {MOST_BYTES}", folder.display()));
    }
    let names: Vec<&str> = programs.iter().map(|(name, _)| name.as_str()).collect();
    println!("{}: {}, {:.1} MB", folder.display(), names.join(", "), bytes as f64 / 1e6);
    println!("on the machine with the GPU: sh run.sh [FOLDER FOR RESULTS]");
    Ok(())
}

/// Runs cargo with these arguments: the programs it made, by name.
fn built(arguments: &[&str]) -> Outcome<Vec<(String, PathBuf)>> {
    let mut build = cargo();
    build.args(arguments).args(["--release", "--locked"]);
    build.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let messages = project::output(&mut build)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter_map(|message| {
        let program = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), program.into()))
    });
    Ok(programs.collect())
}

/// Whether a test of the CUDA backend can be told to use the device.
fn on_device(test: &str) -> Outcome<bool> {
    let folder = Path::new("crates/tfm-cuda/tests");
    let sources = [folder.join(format!("{test}.rs")), folder.join(test).join("main.rs")];
    for source in sources.iter().filter(|source| root().join(source).exists()) {
        if read(source)?.contains(ON_DEVICE) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A program that looks for files where it was built finds none elsewhere.
fn without_build_paths(program: &Path) -> Outcome {
    let failed = |error: std::io::Error| format!("{}: {error}", program.display());
    let bytes = std::fs::read(program).map_err(failed)?;
    let path = root().display().to_string();
    if bytes.windows(path.len()).any(|window| window == path.as_bytes()) {
        return Err(format!("{}: the path {path} is baked in", program.display()));
    }
    Ok(())
}
