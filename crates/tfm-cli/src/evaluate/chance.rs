//! Intervals of scores, and tests of whether systems differ.

use clap::Args;
use tfm::metrics::significance::{
    self, Interval, Metric, SEED, approximate_randomization, paired_bootstrap,
};

/// The most corpora or trials: each takes a time, and each corpus has a score in memory.
const MOST: i64 = 1_000_000;

/// Which tests are asked for.
#[derive(Debug, Args)]
pub(super) struct Chance {
    /// Also the mean and the 95% interval of each score, by N corpora drawn from the lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST))]
    bootstrap: Option<u32>,
    /// Compare with the first --hypothesis by paired bootstrap; 1000 samples if N is not given
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=MOST),
        conflicts_with_all = ["source", "bootstrap", "paired_ar"]
    )]
    paired_bs: Option<u32>,
    /// Compare with the first --hypothesis by approximate randomization; 10000 trials if N is not
    /// given
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=MOST),
        conflicts_with = "source"
    )]
    paired_ar: Option<u32>,
}

/// What the tests say of one system.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) interval: Option<Interval>,
    pub(super) p_value: Option<f64>,
}

impl Chance {
    /// Whether any test is asked for.
    pub(super) fn asked(&self) -> bool {
        self.bootstrap.is_some() || self.paired()
    }

    /// Whether systems are to be compared.
    pub(super) fn paired(&self) -> bool {
        self.paired_bs.is_some() || self.paired_ar.is_some()
    }

    /// How many corpora the bootstrap draws.
    fn samples(&self) -> Option<u32> {
        self.bootstrap.or(self.paired_bs)
    }

    /// The signature with the fields of the tests where sacreBLEU has them.
    pub(super) fn sign(&self, signature: &str) -> String {
        if !self.asked() {
            return signature.to_owned();
        }
        let (references, others) = signature.split_once('|').unwrap_or((signature, ""));
        let field = |name, value: Option<u32>| value.map(|value| format!("{name}:{value}|"));
        let bs = field("bs", self.samples()).unwrap_or_default();
        let ar = field("ar", self.paired_ar).unwrap_or_default();
        format!("{references}|{bs}{ar}seed:{SEED}|{others}")
    }

    /// Tests the system with these lines; the baseline has nothing to be compared with.
    pub(super) fn judge(
        &self,
        metric: &dyn Metric,
        baseline: Option<&[Vec<f64>]>,
        lines: &[Vec<f64>],
    ) -> Verdict {
        let mut verdict = Verdict::default();
        if let (Some(samples), Some(baseline)) = (self.paired_bs, baseline) {
            let found = paired_bootstrap(metric, baseline, lines, samples as usize, SEED);
            return Verdict { interval: found.interval, p_value: Some(found.p_value) };
        }
        if let Some(samples) = self.samples() {
            verdict.interval = significance::bootstrap(metric, lines, samples as usize, SEED);
        }
        if let (Some(trials), Some(baseline)) = (self.paired_ar, baseline) {
            let found = approximate_randomization(metric, baseline, lines, trials as usize, SEED);
            verdict.p_value = Some(found.p_value);
        }
        verdict
    }
}
