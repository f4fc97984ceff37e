//! `cargo xtask ptx`: the PTX that is checked in, compiled again with a pinned compiler from PyPI.
//!
//! The text names the version of the compiler and the hash of its source; `tidy` holds it to the source's, so that PTX
//! never comes from another source than the one beside it.

use crate::project::{self, Outcome, read, root};
use crate::python;
use crate::report::Verdict;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::process::Command;

/// CUDA sources; the PTX lies beside each.
const SOURCES: &[&str] = &[
    "crates/tfm-cuda/kernels/primitives.cu",
    "crates/tfm-ptx-emu/tests/fixtures/attention.cu",
    "crates/tfm-ptx-emu/tests/fixtures/kernels.cu",
];
const REQUIREMENTS: &str = "xtask/python/nvcc.txt";
/// What of the compiler's PTX version is changed, so that older drivers load it: nothing of 9.0 is used.
const VERSION: [&str; 2] = [".version 9.0\n", ".version 7.0\n"];
const ARCHITECTURE: &str = "compute_80";

/// Compiles CUDA sources to PTX.
#[derive(clap::Args)]
pub(crate) struct Ptx {
    /// Write nothing: compare with what is checked in.
    #[arg(long)]
    check: bool,
}

/// Compiles every source, and writes or compares.
pub(crate) fn run(arguments: &Ptx) -> Outcome {
    let compiler = compiler()?;
    for source in SOURCES {
        let (target, text) = (target(source), compile(&compiler, source)?);
        if !arguments.check {
            let (aside, target) = (root().join(target.with_extension("tmp")), root().join(&target));
            let write =
                std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, &target));
            write.map_err(|e| format!("{}: {e}", target.display()))?;
            println!("{}", target.display());
        } else if read(&target)? != text {
            return Err(format!(
                "{}: the compiler makes other text; run `cargo xtask ptx`",
                target.display()
            ));
        }
    }
    Ok(())
}

/// `--check`, where the compiler can be had.
pub(crate) fn check() -> Verdict {
    match compiler() {
        Ok(_) => run(&Ptx { check: true }).into(),
        Err(problem) => Verdict::Skipped(format!("no CUDA compiler: {problem}")),
    }
}

/// PTX that is not from the source beside it.
pub(crate) fn stale() -> Outcome<Vec<String>> {
    let mut faults = Vec::new();
    for source in SOURCES {
        let (target, wanted) = (target(source), header(source, &read(source)?));
        if !read(&target)?.starts_with(&wanted) {
            faults.push(format!(
                "{}: not from {source} as it is; run `cargo xtask ptx`",
                target.display()
            ));
        }
    }
    Ok(faults)
}

fn target(source: &str) -> PathBuf {
    PathBuf::from(source).with_extension("ptx")
}

fn header(source: &str, text: &str) -> String {
    let name = source.rsplit('/').next().unwrap_or(source);
    let hash: String =
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("// {name}, sha256 {hash}, for {ARCHITECTURE}: `cargo xtask ptx`\n")
}

/// The compiler, which also needs the host's C++ preprocessor.
fn compiler() -> Outcome<PathBuf> {
    let python = python::packages(".venv-ptx", REQUIREMENTS)?;
    let mut find = Command::new(python);
    find.args(["-c", "import nvidia.cu13; print(list(nvidia.cu13.__path__)[0])"]);
    let compiler = PathBuf::from(project::output(&mut find)?.trim()).join("bin/nvcc");
    project::output(Command::new(&compiler).arg("--version"))?;
    project::output(Command::new("g++").arg("--version"))?;
    Ok(compiler)
}

fn compile(compiler: &PathBuf, source: &str) -> Outcome<String> {
    let made = root().join("target").join("kernel.ptx");
    let mut compile = Command::new(compiler);
    compile.current_dir(root()).args([
        "-ptx",
        "-O3",
        "-std=c++17",
        "-arch",
        ARCHITECTURE,
        source,
        "-o",
    ]);
    project::output(compile.arg(&made))?;
    let text = std::fs::read_to_string(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    std::fs::remove_file(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    let [from, to] = VERSION;
    if !text.contains(from) {
        return Err(format!("{source}: the compiler did not write `{}`", from.trim()));
    }
    Ok(header(source, &read(source)?) + &text.replacen(from, to, 1))
}
