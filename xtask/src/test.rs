//! `cargo xtask test`: everything that a change must pass. All checks run, also after a failure.

use crate::neon;
use crate::project::{self, Outcome, cargo};
use crate::ptx;
use crate::report::{Counts, Report, Verdict};
use crate::tidy;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What is checked: the workspace with all backends, built by the one profile.
const ALL: [&str; 5] = ["--workspace", "--features", "tfm-cli/cuda", "--release", "--locked"];

/// Runs every check and prints the summary.
pub(crate) fn run() -> Outcome {
    let mut report = Report::default();
    report.check("format", || run_cargo(&["fmt", "--all", "--check"]));
    report.check("clippy", || {
        run_cargo(&[&["clippy", "--all-targets"], &ALL[..], &["--", "-D", "warnings"]].concat())
    });
    report.counted("tests", tests);
    report.check("docs", || {
        let mut doc = cargo();
        doc.args(["doc", "--no-deps"]).args(ALL);
        project::run(doc.env("RUSTDOCFLAGS", "-D warnings")).into()
    });
    report.check("tidy", || tidy::run().into());
    report.check("ptx", ptx::check);
    report.check("neon", neon::check);
    report.check("deny", deny);
    report.finish()
}

fn run_cargo(arguments: &[&str]) -> Verdict {
    project::run(cargo().args(arguments)).into()
}

/// Runs and counts all unit, property, integration and documentation tests.
fn tests() -> (Verdict, Counts) {
    let mut test = cargo();
    test.args(["test", "--no-fail-fast"]).args(ALL);
    // Tests that pass print nothing, except what they have skipped.
    test.args(["--", "--show-output"]).stdout(Stdio::piped());
    let mut child = match test.spawn() {
        Ok(child) => child,
        Err(e) => return (Verdict::Failed(format!("cargo test: {e}")), Counts::default()),
    };
    let mut counter = Counter::default();
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
        let Ok(line) = line else { break };
        println!("{line}");
        counter.read(&line);
    }
    let counts = counter.counts();
    let verdict = match child.wait() {
        Ok(status) if status.success() => Verdict::Passed,
        _ if counts.failed > 0 => Verdict::Failed(format!("{} tests", counts.failed)),
        Ok(status) => Verdict::Failed(format!("cargo test: {status}")),
        Err(e) => Verdict::Failed(format!("cargo test: {e}")),
    };
    (verdict, counts)
}

/// Checks the licences and sources of the dependencies by `cargo deny`, if it is installed.
fn deny() -> Verdict {
    let probe = Command::new("cargo-deny").arg("--version").stdout(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return Verdict::Skipped("cargo-deny is not installed".into());
    }
    run_cargo(&["deny", "--all-features", "check", "bans", "licenses", "sources"])
}

/// Counts tests in what `cargo test` prints.
#[derive(Default)]
struct Counter {
    /// The tests that the harness counts as passed, including those that skipped themselves.
    passed: usize,
    failed: usize,
    ignored: usize,
    skipped_themselves: usize,
    /// Whether the test whose output is being read has already said that it skipped something.
    counted: bool,
}

impl Counter {
    fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            // `ok. 12 passed; 0 failed; 1 ignored; …`
            let words: Vec<&str> = result.split_whitespace().collect();
            for pair in words.windows(2) {
                let Ok(number) = pair[0].parse::<usize>() else { continue };
                match pair[1] {
                    "passed;" => self.passed += number,
                    "failed;" => self.failed += number,
                    "ignored;" => self.ignored += number,
                    _ => {}
                }
            }
        } else if line.starts_with("---- ") {
            self.counted = false;
        } else if line.starts_with("skipped: ") && !self.counted {
            self.counted = true;
            self.skipped_themselves += 1;
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            passed: self.passed.saturating_sub(self.skipped_themselves),
            failed: self.failed,
            skipped: self.ignored + self.skipped_themselves,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn counts_what_the_harness_prints() {
        let printed = "test a ... ok\n\nsuccesses:\n\n---- a stdout ----\nskipped: no ../shared\n\
            skipped: no ../shared\n\n---- b stdout ----\nskipped: no python\n\n\
            test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        let mut counter = Counter::default();
        printed.lines().for_each(|line| counter.read(line));
        let counts = counter.counts();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (6, 2, 3));
    }
}
