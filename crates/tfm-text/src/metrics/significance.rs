//! How far a score, or the difference of two, may be due to chance.
//!
//! The bootstrap: P. Koehn, "Statistical significance tests for machine translation evaluation"
//! (2004). Approximate randomisation: S. Riezler and J. T. Maxwell, "On some pitfalls in automatic
//! evaluation and significance testing for MT" (2005). Samples are those of sacreBLEU with the same
//! seed; sums are in f64, where sacreBLEU's bootstrap has f32.

use super::random::Random;

/// The seed that sacreBLEU takes by default.
pub const SEED: u64 = 12345;

/// A metric whose score of a corpus follows from sums over its lines.
pub trait Metric {
    /// What is counted in one line.
    fn counts(&self, hypothesis: &str, references: &[&str]) -> Vec<f64>;

    /// The score for sums of such counts.
    fn score_of(&self, sums: &[f64]) -> f64;
}

/// The mean of scores, and half the width of the interval that holds 95% of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half the width.
    pub half_width: f64,
}

/// A system beside the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// How probable so large a difference is by chance.
    pub p_value: f64,
    /// The system's own interval, if the test has one.
    pub interval: Option<Interval>,
}

/// The interval of one system's scores on `samples` corpora drawn from its lines.
#[must_use]
pub fn bootstrap(
    metric: &dyn Metric,
    lines: &[Vec<f64>],
    samples: usize,
    seed: u64,
) -> Option<Interval> {
    interval(&resampled(metric, lines, samples, seed))
}

/// Whether two systems differ, by corpora drawn from the lines of both.
#[must_use]
pub fn paired_bootstrap(
    metric: &dyn Metric,
    baseline: &[Vec<f64>],
    system: &[Vec<f64>],
    samples: usize,
    seed: u64,
) -> Comparison {
    let ours = resampled(metric, system, samples, seed);
    let theirs = resampled(metric, baseline, samples, seed);
    let differences: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).collect();
    let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
    let found = difference(metric, baseline, system);
    let larger = differences.iter().filter(|&&value| value - mean > found).count();
    Comparison { p_value: p_value(larger, samples), interval: interval(&ours) }
}

/// Whether two systems differ, by exchanging lines between them.
#[must_use]
pub fn approximate_randomization(
    metric: &dyn Metric,
    baseline: &[Vec<f64>],
    system: &[Vec<f64>],
    trials: usize,
    seed: u64,
) -> Comparison {
    let found = difference(metric, baseline, system);
    let mut random = Random::new(seed);
    let width = baseline.first().map_or(0, Vec::len);
    let mut larger = 0;
    for _ in 0..trials {
        let (mut first, mut second) = (vec![0.0; width], vec![0.0; width]);
        for (theirs, ours) in baseline.iter().zip(system) {
            let (one, other) = if random.coin() { (theirs, ours) } else { (ours, theirs) };
            add(&mut first, one);
            add(&mut second, other);
        }
        if (metric.score_of(&first) - metric.score_of(&second)).abs() > found {
            larger += 1;
        }
    }
    Comparison { p_value: p_value(larger, trials), interval: None }
}

fn difference(metric: &dyn Metric, baseline: &[Vec<f64>], system: &[Vec<f64>]) -> f64 {
    let score = |lines: &[Vec<f64>]| metric.score_of(&sum(lines.iter()));
    (score(baseline) - score(system)).abs()
}

fn p_value(larger: usize, samples: usize) -> f64 {
    (larger as f64 + 1.0) / (samples as f64 + 1.0)
}

fn add(sums: &mut [f64], line: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(line) {
        *sum += value;
    }
}

fn sum<'l>(lines: impl Iterator<Item = &'l Vec<f64>>) -> Vec<f64> {
    let mut sums = Vec::new();
    for line in lines {
        sums.resize(line.len(), 0.0);
        add(&mut sums, line);
    }
    sums
}

fn resampled(metric: &dyn Metric, lines: &[Vec<f64>], samples: usize, seed: u64) -> Vec<f64> {
    let Ok(count @ 1..) = u32::try_from(lines.len()) else { return Vec::new() };
    let mut random = Random::new(seed);
    let sample = |_| {
        let drawn = (0..count).map(|_| &lines[random.below(count) as usize]);
        metric.score_of(&sum(drawn))
    };
    (0..samples).map(sample).collect()
}

fn interval(scores: &[f64]) -> Option<Interval> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let outside = sorted.len() / 40;
    let upper = sorted.get(sorted.len().checked_sub(outside + 1)?)?;
    let half_width = 0.5 * (upper - sorted[outside]);
    Some(Interval { mean: sorted.iter().sum::<f64>() / sorted.len() as f64, half_width })
}
