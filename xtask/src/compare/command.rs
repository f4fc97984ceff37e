//! Runs one of the two commands.

use super::workplace;
use crate::project::Outcome;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use wait4::Wait4;

/// A built command, with a folder of its own for what it writes.
pub(super) struct Binary {
    path: PathBuf,
    folder: PathBuf,
}

/// The cost of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Seconds by the clock.
    pub(super) wall: f64,
    /// Processor time in seconds, of the program and of the system on its behalf.
    pub(super) cpu: f64,
    /// The most resident memory in bytes.
    pub(super) peak: f64,
}

/// A run that succeeded.
pub(super) struct Run {
    pub(super) output: String,
    pub(super) cost: Cost,
}

impl Binary {
    pub(super) fn new(path: PathBuf, side: &str) -> Binary {
        Binary { path, folder: workplace().join(side) }
    }

    /// The folder for what the command writes. It is made if it does not exist.
    pub(super) fn folder(&self) -> Outcome<&Path> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| format!("{}: {error}", self.folder.display()))?;
        Ok(&self.folder)
    }

    fn command(&self, arguments: &[String]) -> Outcome<Command> {
        let mut command = Command::new(&self.path);
        command.current_dir(self.folder()?).args(arguments).stderr(Stdio::piped());
        Ok(command)
    }

    /// Whether a subcommand has an option of that name.
    pub(super) fn knows(&self, command: &str, option: &str) -> Outcome<bool> {
        let help = self.run(&[command.to_owned(), "--help".to_owned()])?;
        Ok(help.is_ok_and(|run| run.output.contains(option)))
    }

    /// Runs the command to its end. The inner result is the command's own, or its error.
    pub(super) fn run(&self, arguments: &[String]) -> Outcome<Result<Run, String>> {
        let mut command = self.command(arguments)?;
        // Write to files, not to pipes, so that the command never waits for a reader while the
        // clock runs.
        let [out, err] = ["stdout", "stderr"].map(|name| self.folder.join(name));
        let create = |path: &Path| File::create(path).map_err(|e| format!("{path:?}: {e}"));
        command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let ended = child.wait4().map_err(|error| format!("{command:?}: {error}"))?;
        let wall = started.elapsed().as_secs_f64();
        let read = |path: &Path| fs::read_to_string(path).map_err(|e| format!("{path:?}: {e}"));
        if !ended.status.success() {
            return Ok(Err(read(&err)?.trim().to_owned()));
        }
        let used = ended.rusage;
        let cpu = (used.utime + used.stime).as_secs_f64();
        let cost = Cost { wall, cpu, peak: used.maxrss as f64 };
        Ok(Ok(Run { output: read(&out)?, cost }))
    }

    /// Gives the command one line after the other, each when it has answered the one before. The
    /// first line warms the command up and is not timed.
    pub(super) fn answer_lines(&self, arguments: &[String], lines: &[String]) -> Outcome<Cost> {
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let fault = |error| format!("one line after the other: {error}");
        let mut child = command.spawn().map_err(fault)?;
        let mut input = child.stdin.take().expect("stdin is piped");
        let mut output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut started = Instant::now();
        for (number, line) in lines.iter().enumerate() {
            writeln!(input, "{line}").map_err(fault)?;
            let mut answer = String::new();
            output.read_line(&mut answer).map_err(fault)?;
            if number == 0 {
                started = Instant::now();
            }
        }
        let wall = started.elapsed().as_secs_f64();
        drop(input);
        let used = child.wait4().map_err(fault)?.rusage;
        let cpu = (used.utime + used.stime).as_secs_f64();
        Ok(Cost { wall, cpu, peak: used.maxrss as f64 })
    }
}
