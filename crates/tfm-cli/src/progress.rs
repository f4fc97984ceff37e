//! Progress and notes on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Notes of one kind that are printed one by one.
const MOST_NOTES: usize = 10;

/// A bar on a terminal, and notes.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// How many notes there were of each kind.
    notes: BTreeMap<&'static str, usize>,
    quiet: bool,
    start: Instant,
    sentences: usize,
    tokens: usize,
}

impl Progress {
    /// Progress through `inputs`: their size in bytes is the length of the bar; a pipe has none. A
    /// bar is shown only on a terminal, and only if the results go elsewhere.
    pub(crate) fn new(inputs: &[&Path], output: &Path, quiet: bool) -> Self {
        let results_on_terminal = output == Path::new("-") && io::stdout().is_terminal();
        let target = if quiet || results_on_terminal {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr() // hidden where it is no terminal
        };
        let size = |path: &&Path| {
            std::fs::metadata(path).ok().filter(|found| found.is_file()).map(|found| found.len())
        };
        let length: Option<u64> = inputs.iter().map(size).sum();
        let (length, template) = match length.filter(|length| *length > 0) {
            Some(length) => (Some(length), "{bar:30} {percent:>3}%  {msg}  {eta} left"),
            None => (None, "{spinner} {msg}  {elapsed}"),
        };
        let bar = ProgressBar::with_draw_target(length, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let notes = BTreeMap::new();
        Progress { bar, notes, quiet, start: Instant::now(), sentences: 0, tokens: 0 }
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

    /// Prints a note of which there may be very many: the first ones, and at the end how many more
    /// there were of this kind.
    pub(crate) fn note_of_many(&mut self, kind: &'static str, message: &str) {
        let count = self.notes.entry(kind).or_default();
        *count += 1;
        if *count <= MOST_NOTES {
            self.note(message);
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        for (kind, count) in self.notes.iter().filter(|(_, count)| **count > MOST_NOTES) {
            self.note(&format!("and {} more lines: {kind}", count - MOST_NOTES));
        }
        self.bar.finish_and_clear();
    }
}
