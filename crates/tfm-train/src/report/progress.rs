//! How a training comes along, on standard error: a bar on a terminal, else a line now and then.

use super::peak_memory;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The time over which speed is measured.
const SPAN: Duration = Duration::from_secs(30);

/// Where a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    /// Updates done.
    pub step: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// What is minimised, a target token.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Source and target tokens learnt from since the training began.
    pub tokens: u64,
}

/// A bar, or lines.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
    updates: Option<u64>,
    every: Duration,
    said: Option<Instant>,
    /// The latest times with their updates and tokens.
    recent: VecDeque<(Instant, u64, u64)>,
}

impl Progress {
    /// For a training of so many updates, if that is known. Where standard error is no terminal, a line comes
    /// every so often.
    pub fn new(updates: Option<u64>, every: Duration, quiet: bool) -> Self {
        let shows_bar = !quiet && io::stderr().is_terminal();
        let target =
            if shows_bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = if updates.is_some() { "{bar:20} {msg}" } else { "{spinner} {msg}" };
        let bar = ProgressBar::with_draw_target(updates, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        Progress { bar, quiet, updates, every, said: None, recent: VecDeque::new() }
    }

    /// An update is done.
    pub fn update(&mut self, status: &Status) {
        let now = Instant::now();
        self.recent.push_back((now, status.step, status.tokens));
        while self.recent.len() > 2 && self.recent[1].0 + SPAN < now {
            self.recent.pop_front();
        }
        if !self.bar.is_hidden() {
            self.bar.set_position(status.step);
            self.bar.set_message(self.line(status));
        } else if !self.quiet && self.said.is_none_or(|said| said + self.every <= now) {
            self.said = Some(now);
            self.print(&self.line(status));
        }
    }

    /// Source and target tokens a second of late; 0 before the second update.
    pub fn tokens_per_second(&self) -> f64 {
        self.rate(|(_, _, tokens)| *tokens)
    }

    /// Work that is none of the updates', as a validation, is over: speed is measured anew.
    pub fn resume(&mut self) {
        self.recent.clear();
    }

    /// Something that the user should know, unless told to be quiet.
    pub fn note(&self, message: &str) {
        if !self.quiet {
            self.print(message);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn print(&self, line: &str) {
        // A standard error that is closed can't be told so.
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }

    /// How fast a count grows, a second.
    fn rate(&self, count: impl Fn(&(Instant, u64, u64)) -> u64) -> f64 {
        match (self.recent.front(), self.recent.back()) {
            (Some(first), Some(last)) if last.0 > first.0 => {
                let seconds = (last.0 - first.0).as_secs_f64();
                count(last).saturating_sub(count(first)) as f64 / seconds
            }
            _ => 0.0,
        }
    }

    fn line(&self, status: &Status) -> String {
        let steps = self.rate(|(_, step, _)| *step);
        let left = self.updates.map(|updates| updates.saturating_sub(status.step) as f64 / steps);
        line(status, self.updates, self.tokens_per_second(), left, peak_memory())
    }
}

/// What is said: updates, loss, learning rate, speed, seconds left, bytes of memory.
fn line(
    status: &Status,
    updates: Option<u64>,
    tokens_per_second: f64,
    left: Option<f64>,
    memory: Option<u64>,
) -> String {
    let Status { step, epoch, loss, learning_rate, .. } = status;
    let mut line = match updates {
        Some(updates) => format!("update {step}/{updates}"),
        None => format!("update {step}, epoch {}", epoch + 1),
    };
    line += &format!("  loss {loss:.4}  rate {learning_rate:.2e}");
    if tokens_per_second > 0.0 {
        line += &format!("  {tokens_per_second:.0} tokens/s");
    }
    if let Some(left) = left.filter(|left| left.is_finite()) {
        line += &format!("  {} left", duration(left));
    }
    if let Some(memory) = memory {
        line += &format!("  {:.1} GiB", memory as f64 / f64::from(1 << 30));
    }
    line
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) if hours < 48 => format!("{hours}h{minutes:02}m"),
        (hours, _, _) => format!("{}d{:02}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let status =
            Status { step: 120, epoch: 1, loss: 3.456_78, learning_rate: 1.5e-4, tokens: 9 };
        assert_eq!(
            line(&status, Some(1000), 12_345.6, Some(754.2), Some(3 << 29)),
            "update 120/1000  loss 3.4568  rate 1.50e-4  12346 tokens/s  12m34s left  1.5 GiB"
        );
        assert_eq!(
            line(&status, None, 0.0, Some(f64::INFINITY), None),
            "update 120, epoch 2  loss 3.4568  rate 1.50e-4"
        );
    }

    #[test]
    fn durations() {
        let said = [5.9, 65.0, 3_725.0, 172_800.0 + 7_300.0].map(duration);
        assert_eq!(said, ["5s", "1m05s", "1h02m", "2d02h"]);
    }

    #[test]
    fn speed_is_that_of_late() {
        let mut progress = Progress::new(Some(10), Duration::from_secs(1), true);
        let now = Instant::now();
        progress.recent = VecDeque::from([(now, 1, 100), (now + Duration::from_secs(2), 5, 900)]);
        assert_eq!(progress.tokens_per_second(), 400.0);
        progress.resume();
        assert_eq!(progress.tokens_per_second(), 0.0);
    }
}
