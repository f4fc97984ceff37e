//! The summary of a task: one line for each check, then the totals.

use std::time::{Duration, Instant};

/// How a check ended.
pub(crate) enum Verdict {
    /// What it checks is true.
    Passed,
    /// What it checks is false, for this reason.
    Failed(String),
    /// It could not run, for this reason.
    Skipped(String),
}

/// The tests that ran inside one check.
#[derive(Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

struct Line {
    name: &'static str,
    verdict: Verdict,
    counts: Counts,
    time: Duration,
}

/// The checks that have run so far.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Runs a check.
    pub(crate) fn check(&mut self, name: &'static str, check: impl FnOnce() -> Verdict) {
        self.counted(name, || {
            let verdict = check();
            let counts = match verdict {
                Verdict::Passed => Counts { passed: 1, ..Counts::default() },
                Verdict::Failed(_) => Counts { failed: 1, ..Counts::default() },
                Verdict::Skipped(_) => Counts { skipped: 1, ..Counts::default() },
            };
            (verdict, counts)
        });
    }

    /// Runs a check that counts the tests inside of it.
    pub(crate) fn counted(
        &mut self,
        name: &'static str,
        check: impl FnOnce() -> (Verdict, Counts),
    ) {
        println!("── {name}");
        let start = Instant::now();
        let (verdict, counts) = check();
        self.lines.push(Line { name, verdict, counts, time: start.elapsed() });
    }

    /// Prints the summary. Fails if a check failed.
    pub(crate) fn finish(self) -> Result<(), String> {
        println!("── summary");
        let mut total = Counts::default();
        let mut failures = Vec::new();
        for line in &self.lines {
            let result = match &line.verdict {
                Verdict::Passed => "passed".to_owned(),
                Verdict::Failed(why) => format!("FAILED: {why}"),
                Verdict::Skipped(why) => format!("skipped: {why}"),
            };
            println!("{:<10} {:>6.1} s  {result}", line.name, line.time.as_secs_f64());
            total.passed += line.counts.passed;
            total.failed += line.counts.failed;
            total.skipped += line.counts.skipped;
            if matches!(line.verdict, Verdict::Failed(_)) {
                failures.push(line.name);
            }
        }
        println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
        if failures.is_empty() { Ok(()) } else { Err(format!("failed: {}", failures.join(", "))) }
    }
}

impl From<Result<(), String>> for Verdict {
    fn from(outcome: Result<(), String>) -> Self {
        outcome.map_or_else(Verdict::Failed, |()| Verdict::Passed)
    }
}
