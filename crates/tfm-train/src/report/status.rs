//! How far a training is, and who watches it.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// The time over which speed is measured.
const SPAN: Duration = Duration::from_secs(30);

/// Who watches a training: a program that shows its progress, or `()`, which shows nothing.
pub trait Observer {
    /// An update is done.
    fn updated(&mut self, status: &Status);

    /// Something happened that a person should know.
    fn note(&mut self, message: &str);
}

impl Observer for () {
    fn updated(&mut self, _: &Status) {}

    fn note(&mut self, _: &str) {}
}

/// How far a training is. Its `Display` is one line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Updates done.
    pub step: u64,
    /// Updates to be done in all, where the configuration says so.
    pub updates: Option<u64>,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The mean loss over the target tokens of the last update.
    pub loss: f64,
    /// The learning rate of the last update.
    pub learning_rate: f64,
    /// Source and target tokens learnt from per second, over the last half minute; 0 before the
    /// second update.
    pub tokens_per_second: f64,
    /// Seconds until the last update at the speed of the last half minute.
    pub seconds_left: Option<f64>,
    /// The most memory that the process has taken, in bytes.
    pub peak_memory: Option<u64>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.updates {
            Some(updates) => write!(f, "update {}/{updates}", self.step)?,
            None => write!(f, "update {}, epoch {}", self.step, self.epoch + 1)?,
        }
        write!(f, "  loss {:.4}  rate {:.2e}", self.loss, self.learning_rate)?;
        if self.tokens_per_second > 0.0 {
            write!(f, "  {:.0} tokens/s", self.tokens_per_second)?;
        }
        if let Some(left) = self.seconds_left {
            write!(f, "  {} left", duration(left))?;
        }
        if let Some(memory) = self.peak_memory {
            write!(f, "  {:.1} GiB", memory as f64 / f64::from(1 << 30))?;
        }
        Ok(())
    }
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

/// An update, as speed is measured by it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    time: Instant,
    step: u64,
    tokens: u64,
}

/// Measures the speed of the latest updates.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    recent: VecDeque<Mark>,
}

impl Speed {
    /// Counts the update `step`, by which `tokens` have been learnt from since the training began.
    pub(crate) fn update(&mut self, step: u64, tokens: u64) {
        let time = Instant::now();
        self.recent.push_back(Mark { time, step, tokens });
        while self.recent.len() > 2 && self.recent[1].time + SPAN < time {
            self.recent.pop_front();
        }
    }

    /// Measures anew. To be called after work that is not an update's, such as a validation.
    pub(crate) fn restart(&mut self) {
        self.recent.clear();
    }

    /// Source and target tokens per second; 0 before the second update.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.rate(|mark| mark.tokens)
    }

    /// Seconds until `updates` are done, where they are known and the speed is.
    pub(crate) fn seconds_left(&self, updates: Option<u64>) -> Option<f64> {
        let left = updates?.saturating_sub(self.recent.back()?.step) as f64;
        Some(left / self.rate(|mark| mark.step)).filter(|seconds| seconds.is_finite())
    }

    /// The growth of a count per second.
    fn rate(&self, count: impl Fn(&Mark) -> u64) -> f64 {
        match (self.recent.front(), self.recent.back()) {
            (Some(first), Some(last)) if last.time > first.time => {
                let seconds = (last.time - first.time).as_secs_f64();
                count(last).saturating_sub(count(first)) as f64 / seconds
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: Status = Status {
        step: 120,
        updates: None,
        epoch: 1,
        loss: 3.456_78,
        learning_rate: 1.5e-4,
        tokens_per_second: 0.0,
        seconds_left: None,
        peak_memory: None,
    };

    #[test]
    fn a_status_is_one_line() {
        let status = Status {
            updates: Some(1000),
            tokens_per_second: 12_345.6,
            seconds_left: Some(754.2),
            peak_memory: Some(3 << 29),
            ..STATUS
        };
        assert_eq!(
            status.to_string(),
            "update 120/1000  loss 3.4568  rate 1.50e-4  12346 tokens/s  12m34s left  1.5 GiB"
        );
        assert_eq!(STATUS.to_string(), "update 120, epoch 2  loss 3.4568  rate 1.50e-4");
    }

    #[test]
    fn durations() {
        let said = [5.9, 65.0, 3_725.0, 172_800.0 + 7_300.0].map(duration);
        assert_eq!(said, ["5s", "1m05s", "1h02m", "2d02h"]);
    }

    #[test]
    fn speed_is_that_of_the_latest_updates() {
        let time = Instant::now();
        let first = Mark { time, step: 1, tokens: 100 };
        let last = Mark { time: time + Duration::from_secs(2), step: 5, tokens: 900 };
        let mut speed = Speed { recent: VecDeque::from([first]) };
        assert_eq!(speed.seconds_left(Some(10)), None);
        speed.recent.push_back(last);
        assert_eq!(speed.tokens_per_second(), 400.0);
        assert_eq!(speed.seconds_left(Some(25)), Some(10.0));
        assert_eq!(speed.seconds_left(None), None);
        speed.restart();
        assert_eq!(speed.tokens_per_second(), 0.0);
    }
}
