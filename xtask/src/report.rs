//! The summary of a task: one line a check, then the totals.

use std::time::{Duration, Instant};

/// How a check ended.
pub(crate) enum Verdict {
    /// It holds.
    Passed,
    /// It does not, and why.
    Failed(String),
    /// It could not be made, and why.
    Skipped(String),
}

/// Tests counted inside one check.
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

/// The checks made so far.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Makes a check that is one thing.
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

    /// Makes a check that counts the tests inside it.
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

    /// Prints the summary; an error if a check failed.
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
