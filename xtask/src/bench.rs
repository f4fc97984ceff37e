//! `cargo xtask bench`: how fast the kernels are, the backends beside each other, and we beside others.

mod backends;
mod peers;
mod training;

use crate::project::{self, Outcome};
use clap::Args;
use std::path::PathBuf;

/// What to measure.
#[derive(Args)]
pub(crate) struct Bench {
    /// Measure beside PyTorch `transformers` and CTranslate2, and write docs/benchmarks/cpu.md
    #[arg(long)]
    peers: bool,
    /// Measure training beside PyTorch, and write docs/benchmarks/training.md
    #[arg(long, conflicts_with = "peers")]
    training: bool,
    /// How often each program runs; they take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A Python that has xtask/python/requirements.txt; without it, one is made in .venv
    #[arg(long)]
    python: Option<PathBuf>,
    /// The table of backends alone, without the kernels' benchmarks
    #[arg(long, conflicts_with_all = ["peers", "training"])]
    backends: bool,
}

/// Measures and prints tables.
pub(crate) fn run(arguments: &Bench) -> Outcome {
    if arguments.peers {
        return peers::run(arguments.rounds.max(1), arguments.python.as_deref());
    }
    if arguments.training {
        return training::run(arguments.rounds.max(1), arguments.python.as_deref());
    }
    if !arguments.backends {
        project::run(project::cargo().args(["bench", "--locked", "--package", "tfm-benches"]))?;
    }
    backends::run()
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
