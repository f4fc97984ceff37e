//! `cargo xtask gpu-bundle`: packs what a machine with a GPU but no Rust needs to check and to time
//! the CUDA backend.

use crate::project::{self, Outcome, cargo, read, root};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The most bytes that a bundle may have, since it has to be sent to the machine.
const MOST_BYTES: u64 = 64 << 20;
/// The source of a test that can run on a device names one of these. Other tests would run in the
/// interpreter.
const ON_DEVICE: [&str; 2] = ["TFM_CUDA_DEVICE", "with_driver"];
/// The command, and the programs that time it.
const PROGRAMS: [&str; 4] = ["tfm", "cuda_speed", "peer_run", "training_speed"];
/// Files that are copied unchanged.
const FILES: &[(&str, &str)] = &[
    ("xtask/src/gpu_bundle/run.sh", "run.sh"),
    ("xtask/python/cuda_peers.py", "cuda_peers.py"),
    ("xtask/python/cuda_batches.py", "cuda_batches.py"),
    ("xtask/python/peers.py", "peers.py"),
    ("xtask/python/peers_base.py", "peers_base.py"),
    ("xtask/python/peers_training.py", "peers_training.py"),
    ("xtask/python/base_shape.json", "base_shape.json"),
    ("crates/tfm/models/marian-tatoeba-en-fr/source.spm", "base.spm"),
    ("crates/tfm/tests/fixtures/bundled.en", "source.en"),
];

/// Builds the CUDA backend's tests and benchmarks into one folder, and packs it.
#[derive(clap::Args)]
pub(crate) struct GpuBundle {
    /// The folder; what it held is replaced. Beside it lies the same as a .tar.gz
    #[arg(short, long, default_value = "target/gpu-bundle")]
    output: PathBuf,
}

/// Builds and copies. The profile strips the programs.
pub(crate) fn run(arguments: &GpuBundle) -> Outcome {
    let mut programs = Vec::new();
    for (name, program) in built(&["test", "--no-run", "--package", "tfm-cuda"])? {
        if on_device(&name)? {
            programs.push((name, program));
        }
    }
    let commands = ["build", "--bins", "--package", "tfm-cli", "--package", "tfm-benches"];
    let commands = built(&[&commands[..], &["--features", "tfm-cli/cuda"]].concat())?;
    programs.extend(commands.into_iter().filter(|(name, _)| PROGRAMS.contains(&name.as_str())));

    let folder = root().join(&arguments.output);
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for (name, program) in &programs {
        let target = folder.join(name);
        std::fs::copy(program, &target).map_err(failed)?;
        without_build_paths(&target)?;
    }
    for (source, name) in FILES {
        std::fs::copy(root().join(source), folder.join(name)).map_err(failed)?;
    }
    let packed = folder.with_extension("tar.gz");
    let mut tar = Command::new("tar");
    project::run(tar.arg("-czf").arg(&packed).arg("-C").arg(&folder).arg("."))?;
    let bytes = std::fs::metadata(&packed).map_err(failed)?.len();
    if bytes > MOST_BYTES {
        return Err(format!("{}: {bytes} bytes, at most {MOST_BYTES}", packed.display()));
    }
    let names: Vec<&str> = programs.iter().map(|(name, _)| name.as_str()).collect();
    println!("{}: {}, {:.1} MB", packed.display(), names.join(", "), bytes as f64 / 1e6);
    println!("unpacked on the machine with the GPU: bash run.sh [FOLDER FOR RESULTS]");
    Ok(())
}

/// Runs cargo with these arguments. Returns the programs that it built, by name.
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

/// Whether a test of the CUDA backend can run on a device.
fn on_device(test: &str) -> Outcome<bool> {
    let folder = Path::new("crates/tfm-cuda/tests");
    let mut sources = vec![folder.join(format!("{test}.rs"))];
    if let Ok(files) = std::fs::read_dir(root().join(folder).join(test)) {
        sources.extend(files.filter_map(|file| Some(file.ok()?.path())));
    }
    for source in sources.iter().filter(|source| root().join(source).exists()) {
        let text = read(source)?;
        if ON_DEVICE.iter().any(|name| text.contains(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Fails if a program would look for files in the folder where it was built.
fn without_build_paths(program: &Path) -> Outcome {
    let failed = |error: std::io::Error| format!("{}: {error}", program.display());
    let bytes = std::fs::read(program).map_err(failed)?;
    let path = root().display().to_string();
    if bytes.windows(path.len()).any(|window| window == path.as_bytes()) {
        return Err(format!("{}: the path {path} is baked in", program.display()));
    }
    Ok(())
}
