//! The laws that every backend obeys, as property tests.
//!
//! Each law draws random cases and checks them on a [`Subject`]. A failure names a seed; with
//! `TFM_SEED` set to it, only that case runs again. `TFM_CASES` multiplies the number of cases.

mod company;
mod decoding;
mod differences;
mod gradients;
mod harness;
mod single_ops;
mod whole_graphs;

pub use differences::check_gradients;

use super::{Subject, Tally};
use std::fmt;

/// How many cases, and which.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Multiplies the number of cases of every check.
    pub scale: f64,
    /// Run the case of this seed alone.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Config { scale: 1.0, seed: None }
    }
}

impl Config {
    /// `TFM_CASES` is the scale, `TFM_SEED` the seed.
    pub fn from_environment() -> Self {
        fn read<T: std::str::FromStr>(name: &str) -> Option<T> {
            std::env::var(name).ok().and_then(|text| text.parse().ok())
        }
        Config { scale: read("TFM_CASES").unwrap_or(1.0), seed: read("TFM_SEED") }
    }
}

/// A law that held.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// The cases that were checked.
    pub cases: usize,
    /// How close the answers came to their bounds; empty where bits were compared.
    pub tally: Tally,
}

/// A law that was broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The law's number.
    pub law: u32,
    /// What was checked: mostly an op.
    pub check: String,
    /// The backend's name.
    pub backend: String,
    /// Replays the case.
    pub seed: u64,
    /// What was found, on the smallest case.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { law, check, backend, seed, message } = self;
        write!(f, "law {law} ({check}) on {backend}: {message}\n  replay: TFM_SEED={seed}")
    }
}

/// One of the laws.
#[derive(Clone, Copy)]
pub struct Law {
    /// Its number in the design.
    pub number: u32,
    /// What it says.
    pub claim: &'static str,
    run: fn(&dyn Subject, &Config) -> Result<Report, Failure>,
}

impl Law {
    /// Checks the law.
    ///
    /// # Errors
    /// The first case that breaks it, shrunk.
    pub fn check(&self, subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
        (self.run)(subject, config)
    }
}

/// Every law there is.
pub fn all() -> &'static [Law] {
    const fn law(
        number: u32,
        claim: &'static str,
        run: fn(&dyn Subject, &Config) -> Result<Report, Failure>,
    ) -> Law {
        Law { number, claim, run }
    }
    const {
        &[
            law(1, "a backend agrees with the f64 reference", single_ops::reference),
            law(2, "a fused op agrees with its decomposition", single_ops::fused),
            law(3, "strided operands give what contiguous ones give", single_ops::layouts),
            law(4, "gradients are the derivatives", gradients::derivatives),
            law(5, "cached decoding gives what the full forward pass gives", decoding::cached),
            law(6, "a beam reorder gives what recomputing gives", decoding::reorder),
            law(7, "a sequence does not depend on its company", company::law),
            law(
                8,
                "a row has no gradient from later ones, nor from other sequences",
                gradients::causality,
            ),
            law(9, "nothing and one of each are no special cases", whole_graphs::tiny),
            law(10, "a replay gives what a fresh run gives", whole_graphs::replay),
            law(11, "random whole graphs agree with the reference", whole_graphs::random),
        ]
    }
}

/// Checks all laws; for tests.
///
/// # Panics
/// If any is broken, with all that are.
pub fn assert_all(subject: &dyn Subject, config: &Config) {
    let failures: Vec<String> = all()
        .iter()
        .filter_map(|law| law.check(subject, config).err())
        .map(|failure| failure.to_string())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
