//! What becomes of a line at fault: it ends the work, or it is skipped and counted.

use crate::failure::{Failure, Outcome};
use crate::progress::Progress;
use clap::{Args, ValueEnum};

/// How to go on after a line at fault.
#[derive(Debug, Args)]
pub(crate) struct OnError {
    /// After a line at fault: stop, with the lines before it done; or skip it. Where there is a
    /// result for each line, an empty line (jsonl: its `error`) stands for it. The status is then 3
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = What::Stop)]
    on_error: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Stop,
    Skip,
}

/// Counts the lines that were skipped.
#[derive(Debug)]
pub(crate) struct Faults {
    skips: bool,
    skipped: usize,
}

impl OnError {
    /// No line was at fault yet.
    pub(crate) fn faults(&self) -> Faults {
        Faults { skips: self.on_error == What::Skip, skipped: 0 }
    }
}

impl Faults {
    /// Skips a line at fault, which the message names, or ends the work.
    pub(crate) fn meet(&mut self, message: String, progress: &Progress) -> Outcome {
        if !self.skips {
            return Err(Failure::Work(message));
        }
        progress.note(&format!("{message}; skipped"));
        self.skipped += 1;
        Ok(())
    }

    /// Says at the end that something is missing.
    pub(crate) fn finish(self) -> Outcome {
        match self.skipped {
            0 => Ok(()),
            1 => Err(Failure::Skipped("1 line at fault was skipped".into())),
            skipped => Err(Failure::Skipped(format!("{skipped} lines at fault were skipped"))),
        }
    }
}
