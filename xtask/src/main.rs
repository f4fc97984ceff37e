//! Development tasks: `cargo xtask <task>`. Each task is one module.

mod bench;
mod book;
mod compare;
mod export;
mod golden;
mod gpu_bundle;
mod markdown;
mod neon;
mod parity;
mod project;
mod ptx;
mod python;
mod report;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The tasks of tfm's developers.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything a change must pass: format, clippy, tests, documentation, tidy, licences.
    Test,
    /// The rules of the house that no compiler checks.
    Tidy,
    /// The laws, on every backend there is: a line for each.
    Parity(parity::Parity),
    /// Benchmarks of the kernels, a table of the backends; with --peers or --training beside other
    /// programs, with --roofline beside what the CPU can do.
    Bench(bench::Bench),
    /// Whether translations, scores and trainings are byte for byte those of another commit; with
    /// --timed, as fast.
    Compare(compare::Compare),
    /// Holds a model's folder against `transformers` (or `torch.nn.Transformer`): ids, logits,
    /// greedy translations.
    Export(export::Export),
    /// Compiles the CUDA sources to the PTX that is checked in, with a pinned compiler from PyPI in
    /// `.venv-ptx`.
    Ptx(ptx::Ptx),
    /// The CUDA backend's tests and benchmarks in one folder, for a machine with a GPU and no Rust.
    GpuBundle(gpu_bundle::GpuBundle),
    /// The documentation as a book of HTML in target/book, with its links checked; installs mdBook
    /// in target/tools.
    Book,
    /// Makes the small Hugging Face fixtures again, with packages from PyPI in `.venv`.
    Golden,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Test => test::run(),
        Task::Tidy => tidy::run(),
        Task::Parity(arguments) => parity::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Compare(arguments) => compare::run(&arguments),
        Task::Export(arguments) => export::run(&arguments),
        Task::Ptx(arguments) => ptx::run(&arguments),
        Task::GpuBundle(arguments) => gpu_bundle::run(&arguments),
        Task::Book => book::run(),
        Task::Golden => golden::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
