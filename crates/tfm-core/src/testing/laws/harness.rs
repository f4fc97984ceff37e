//! Draws the cases of a check, runs them, and shrinks a failing one.

use super::{Config, Failure, Report};
use crate::philox::philox4x32;
use crate::testing::{Subject, Tally};
use proptest::prelude::*;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config as RunnerConfig, RngAlgorithm, TestError, TestRng, TestRunner};
use std::cell::Cell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One check of a law.
pub(super) struct Check<'a> {
    pub(super) law: u32,
    pub(super) name: &'a str,
    pub(super) subject: &'a dyn Subject,
    pub(super) config: &'a Config,
}

impl Check<'_> {
    /// Runs `cases` cases (times the scale; at least one). `test` returns how close the
    /// answers came to their bounds.
    pub(super) fn run<T: Debug>(
        &self,
        cases: usize,
        strategy: &impl Strategy<Value = T>,
        test: impl Fn(&T) -> Result<Tally, String>,
    ) -> Result<Report, Failure> {
        let mut report = Report::default();
        let cases = match self.config.seed {
            Some(_) => 1,
            None => (cases as f64 * self.config.scale).ceil() as usize,
        };
        for case in 0..cases {
            let seed = self.config.seed.unwrap_or_else(|| self.seed(case));
            report.cases += 1;
            report.tally = report.tally.and(self.case(seed, strategy, &test)?);
        }
        Ok(report)
    }

    fn seed(&self, case: usize) -> u64 {
        let name =
            self.name.bytes().fold(self.law, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
        let [low, high, ..] = philox4x32([case as u32, name, 0, 0], [0; 2]);
        u64::from(high) << 32 | u64::from(low)
    }

    fn case<T: Debug>(
        &self,
        seed: u64,
        strategy: &impl Strategy<Value = T>,
        test: impl Fn(&T) -> Result<Tally, String>,
    ) -> Result<Tally, Failure> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = RunnerConfig {
            failure_persistence: None,
            max_shrink_iters: 200,
            ..RunnerConfig::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let failure = |message| Failure {
            law: self.law,
            check: self.name.into(),
            backend: self.subject.name(),
            seed,
            message,
        };
        let tree = strategy.new_tree(&mut runner).map_err(|reason| failure(reason.to_string()))?;
        let tally = Cell::new(Tally::default());
        let outcome = runner.run_one(tree, |value| {
            // A panic fails the case like any other fault, and is shrunk too.
            let result = catch_unwind(AssertUnwindSafe(|| test(&value)));
            match result.unwrap_or_else(|panic| Err(panic_message(&*panic))) {
                Ok(result) => {
                    tally.set(result);
                    Ok(())
                }
                Err(message) => Err(TestCaseError::fail(message)),
            }
        });
        match outcome {
            Ok(_) => Ok(tally.get()),
            Err(TestError::Abort(reason)) => Err(failure(reason.to_string())),
            Err(TestError::Fail(reason, smallest)) => {
                Err(failure(format!("{reason}\n  for {smallest:?}")))
            }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text =
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    format!("panic: {text}")
}

impl Report {
    /// Both reports together.
    pub(super) fn and(self, other: Report) -> Report {
        Report { cases: self.cases + other.cases, tally: self.tally.and(other.tally) }
    }
}
