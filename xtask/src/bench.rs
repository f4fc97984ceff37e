//! `cargo xtask bench`: measures the kernels, the backends beside each other, and tfm beside other
//! programs.

mod backends;
mod cpu;
mod page;
mod peers;
mod roofline;
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
    /// Measure what this CPU can do at most, compute the floor from it, and write docs/roofline.md
    #[arg(long, conflicts_with_all = ["peers", "training"])]
    roofline: bool,
    /// How often each program runs; they take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of the rows of --peers those whose name has this in it: "base", "f32", "single beam 4 int8"
    #[arg(long, requires = "peers")]
    only: Option<String>,
    /// With --peers a small piece of the work, to see that everything runs; the page stays as it is
    #[arg(long, requires = "peers")]
    quick: bool,
    /// A Python that has xtask/python/requirements.txt; without it, one is made in .venv
    #[arg(long)]
    python: Option<PathBuf>,
    /// The table of backends alone, without the kernels' benchmarks
    #[arg(long, conflicts_with_all = ["peers", "training", "roofline"])]
    backends: bool,
}

/// Measures and prints tables.
pub(crate) fn run(arguments: &Bench) -> Outcome {
    if arguments.peers {
        return peers::run(&peers::Choice {
            rounds: arguments.rounds.max(1),
            only: arguments.only.as_deref(),
            quick: arguments.quick,
            python: arguments.python.as_deref(),
        });
    }
    if arguments.roofline {
        return roofline::run();
    }
    if arguments.training {
        return training::run(arguments.rounds.max(1), arguments.python.as_deref());
    }
    if !arguments.backends {
        project::run(project::cargo().args(["bench", "--locked", "--package", "tfm-benches"]))?;
    }
    backends::run()
}

/// The median. Of an even number of values it is the mean of the middle two, so that neither side
/// is favoured.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
