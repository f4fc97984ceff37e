//! Progress and notes on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// A bar on a terminal, and notes.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    start: Instant,
    sentences: usize,
    tokens: usize,
}

impl Progress {
    /// Progress through `input`: its size in bytes is the length of the bar; a pipe has none. A bar
    /// is shown only on a terminal, and only if the results go elsewhere.
    pub(crate) fn new(input: Option<&Path>, output: &Path, quiet: bool) -> Self {
        let results_on_terminal = output == Path::new("-") && io::stdout().is_terminal();
        let target = if quiet || results_on_terminal {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr() // hidden where it is no terminal
        };
        let file =
            input.and_then(|path| std::fs::metadata(path).ok()).filter(|found| found.is_file());
        let (length, template) = match file {
            Some(found) => (Some(found.len()), "{bar:30} {percent:>3}%  {msg}  {eta} left"),
            None => (None, "{spinner} {msg}  {elapsed}"),
        };
        let bar = ProgressBar::with_draw_target(length, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Progress { bar, quiet, start: Instant::now(), sentences: 0, tokens: 0 }
    }

    /// Counts a sentence of `bytes` that became `tokens`.
    pub(crate) fn advance(&mut self, bytes: u64, tokens: usize) {
        self.sentences += 1;
        self.tokens += tokens;
        if self.bar.is_hidden() {
            return;
        }
        self.bar.inc(bytes);
        let rate = self.tokens as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{} sentences, {rate:.0} tokens/s", self.sentences));
    }

    /// Shows a message for work that is not counted in sentences.
    pub(crate) fn say(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Prints a note, unless the user asked for quiet.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            // If standard error is closed, there is nowhere to report it.
            self.bar.suspend(|| drop(writeln!(io::stderr(), "note: {message}")));
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
