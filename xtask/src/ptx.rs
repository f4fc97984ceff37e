//! `cargo xtask ptx`: compiles the PTX that is checked in again, with a pinned compiler from PyPI.
//!
//! A PTX file names the version of the compiler and the hash of its source. `tidy` compares that
//! hash with the source beside it, so that the two always belong together.

mod budget;

use crate::project::{self, Outcome, read, root};
use crate::python;
use crate::report::Verdict;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders with CUDA sources. Every `.cu` is compiled to a PTX file beside it.
const FOLDERS: &[&str] = &["crates/tfm-cuda/kernels", "crates/tfm-ptx-emu/tests/fixtures"];
const REQUIREMENTS: &str = "xtask/python/nvcc.txt";
/// The PTX version that the compiler writes. It is lowered so that older drivers load the text,
/// which uses nothing of 9.0.
const VERSION: &str = ".version 9.0\n";
/// The architectures, each with the lowest PTX version that has it. A source is compiled for the
/// first one, unless its first line names another: `// for compute_90a`.
const ARCHITECTURES: [[&str; 2]; 2] =
    [["compute_80", ".version 7.0\n"], ["compute_90a", ".version 8.0\n"]];
/// Begins the names in an anonymous namespace. The compiler appends a hash of the folder, with
/// which the text would differ from machine to machine.
const LOCAL: &str = "_GLOBAL__N__";

/// Compiles CUDA sources to PTX.
#[derive(clap::Args)]
pub(crate) struct Ptx {
    /// Write nothing: compare with what is checked in, and hold it to the budget of registers.
    #[arg(long)]
    check: bool,
}

/// Compiles every source, and writes the PTX or compares it.
pub(crate) fn run(arguments: &Ptx) -> Outcome {
    let compiler = compiler()?;
    for source in &sources("cu")? {
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
    if !arguments.check {
        return Ok(());
    }
    let shipped: Vec<_> =
        sources("ptx")?.into_iter().filter(|ptx| ptx.starts_with(FOLDERS[0])).collect();
    budget::check(compiler.parent().unwrap_or(&compiler), &shipped)
}

/// Runs `--check`, if the compiler can be had.
pub(crate) fn check() -> Verdict {
    match compiler() {
        Ok(_) => run(&Ptx { check: true }).into(),
        Err(problem) => Verdict::Skipped(format!("no CUDA compiler: {problem}")),
    }
}

/// The PTX files that do not belong to the source beside them.
pub(crate) fn stale() -> Outcome<Vec<String>> {
    let mut faults = Vec::new();
    for source in &sources("cu")? {
        let (target, wanted) = (target(source), header(source)?);
        if !read(&target)?.starts_with(&wanted) {
            faults.push(format!(
                "{}: not from {} as it is; run `cargo xtask ptx`",
                target.display(),
                source.display()
            ));
        }
    }
    Ok(faults)
}

/// The files with this ending, sorted, relative to the root.
fn sources(ending: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let failed = |error: std::io::Error| format!("{folder}: {error}");
        for entry in std::fs::read_dir(root().join(folder)).map_err(failed)? {
            let path = Path::new(folder).join(entry.map_err(failed)?.file_name());
            found.extend(path.extension().is_some_and(|e| e == ending).then_some(path));
        }
    }
    found.sort();
    Ok(found)
}

fn target(source: &Path) -> PathBuf {
    source.with_extension("ptx")
}

/// The first line of a PTX file. It has the hash of the source and of the headers that it includes
/// from its folder.
fn header(source: &Path) -> Outcome<String> {
    let mut hash = Sha256::new();
    let mut files = vec![source.to_path_buf()];
    let mut next = 0;
    while let Some(file) = files.get(next) {
        let text = read(file)?;
        hash.update(&text);
        for name in text.lines().filter_map(|line| line.strip_prefix("#include \"")) {
            let header = source.with_file_name(name.trim_end_matches('"'));
            if !files.contains(&header) {
                files.push(header);
            }
        }
        next += 1;
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let name = source.file_name().unwrap_or_default().display();
    let [architecture, _] = architecture(source)?;
    Ok(format!("// {name}, sha256 {hash}, for {architecture}: `cargo xtask ptx`\n"))
}

/// The architecture that a source is compiled for, and its PTX version.
fn architecture(source: &Path) -> Outcome<[&'static str; 2]> {
    let text = read(source)?;
    let Some(name) = text.lines().next().and_then(|line| line.strip_prefix("// for ")) else {
        return Ok(ARCHITECTURES[0]);
    };
    let found = ARCHITECTURES.into_iter().find(|[known, _]| *known == name.trim());
    found.ok_or_else(|| format!("{}: `{name}` is no architecture of ours", source.display()))
}

/// The compiler. It also needs the host's C++ preprocessor.
fn compiler() -> Outcome<PathBuf> {
    let python = python::packages(".venv-ptx", REQUIREMENTS)?;
    let mut find = Command::new(python);
    find.args(["-c", "import nvidia.cu13; print(list(nvidia.cu13.__path__)[0])"]);
    let compiler = PathBuf::from(project::output(&mut find)?.trim()).join("bin/nvcc");
    project::output(Command::new(&compiler).arg("--version"))?;
    project::output(Command::new("g++").arg("--version"))?;
    Ok(compiler)
}

fn compile(compiler: &Path, source: &Path) -> Outcome<String> {
    let made = root().join("target").join("kernel.ptx");
    let mut compile = Command::new(compiler);
    let [architecture, version] = architecture(source)?;
    compile.current_dir(root()).args(["-ptx", "-O3", "-std=c++17", "-arch", architecture]);
    project::output(compile.arg(source).arg("-o").arg(&made))?;
    let text = std::fs::read_to_string(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    std::fs::remove_file(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    let source_name = source.display();
    if !text.contains(VERSION) {
        return Err(format!("{source_name}: the compiler did not write `{}`", VERSION.trim()));
    }
    if text.contains(LOCAL) {
        return Err(format!(
            "{source_name}: a symbol of the PTX comes from a namespace without a name; declare shared memory and constants \
             outside of it"
        ));
    }
    Ok(header(source)? + &text.replacen(VERSION, version, 1))
}
