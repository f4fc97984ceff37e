//! The learning rate over time.

use std::f64::consts::PI;

/// A learning rate for every update, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Equation 3: `factor · d_model^-0.5 · min(t^-0.5, t · warmup^-1.5)`.
    Paper {
        /// What the paper's rate is multiplied by.
        factor: f64,
        /// The update with the highest rate.
        warmup: u64,
    },
    /// A straight line from 0 up to a peak, then a decay.
    Peak {
        /// The highest rate.
        peak: f64,
        /// The update that reaches it; 0 to begin with it.
        warmup: u64,
        /// The decay after it.
        decay: Decay,
    },
}

/// How a rate falls from its peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// None: the rate stays.
    None,
    /// `peak · √(warmup / t)`, as in fairseq; a warm-up of 0 is the same as 1.
    InverseSqrt,
    /// Half a cosine wave down to `last` at `updates`, where it stays (Loshchilov and Hutter 2017).
    Cosine {
        /// The update that reaches the last rate.
        updates: u64,
        /// The last rate.
        last: f64,
    },
    /// A straight line down to `last` at `updates`, where it stays.
    Linear {
        /// The update that reaches the last rate.
        updates: u64,
        /// The last rate.
        last: f64,
    },
}

impl Schedule {
    /// The rate of an update, counted from 1, for a model of this width.
    pub fn rate(&self, update: u64, d_model: usize) -> f64 {
        let t = update.max(1) as f64;
        match *self {
            Schedule::Paper { factor, warmup } => {
                let warmup = warmup.max(1) as f64;
                factor * (d_model as f64).powf(-0.5) * t.powf(-0.5).min(t * warmup.powf(-1.5))
            }
            Schedule::Peak { peak, warmup, .. } if update < warmup => peak * t / warmup as f64,
            Schedule::Peak { peak, warmup, decay } => decay.rate(peak, warmup, t),
        }
    }
}

impl Decay {
    fn rate(self, peak: f64, warmup: u64, t: f64) -> f64 {
        // How far the decay has come, from 0 to 1.
        let progress = |updates: u64| {
            let (start, end) = (warmup as f64, updates as f64);
            if end > start { ((t - start) / (end - start)).clamp(0.0, 1.0) } else { 1.0 }
        };
        match self {
            Decay::None => peak,
            Decay::InverseSqrt => peak * (warmup.max(1) as f64 / t).sqrt(),
            Decay::Cosine { updates, last } => {
                last + (peak - last) * 0.5 * (1.0 + (PI * progress(updates)).cos())
            }
            Decay::Linear { updates, last } => peak + (last - peak) * progress(updates),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-3), "{found} {expected}");
    }

    #[test]
    fn the_papers_rate() {
        let schedule = Schedule::Paper { factor: 1.0, warmup: 4000 };
        close(schedule.rate(1, 512), 512f64.powf(-0.5) * 4000f64.powf(-1.5));
        close(schedule.rate(4000, 512), (512.0f64 * 4000.0).powf(-0.5));
        close(schedule.rate(16_000, 512), schedule.rate(4000, 512) / 2.0);
        // 7e-4, as is known of the base model.
        assert!((schedule.rate(4000, 512) - 6.987_712_429_686_844e-4).abs() < 1e-15);
    }

    #[test]
    fn a_peak_and_what_follows() {
        let schedule = |decay| Schedule::Peak { peak: 1e-3, warmup: 100, decay };
        for decay in [
            Decay::None,
            Decay::InverseSqrt,
            Decay::Cosine { updates: 500, last: 1e-5 },
            Decay::Linear { updates: 500, last: 1e-5 },
        ] {
            close(schedule(decay).rate(1, 0), 1e-5);
            close(schedule(decay).rate(50, 0), 5e-4);
            close(schedule(decay).rate(100, 0), 1e-3);
        }
        close(schedule(Decay::None).rate(1_000_000, 0), 1e-3);
        close(schedule(Decay::InverseSqrt).rate(400, 0), 5e-4);
        let cosine = schedule(Decay::Cosine { updates: 500, last: 1e-5 });
        close(cosine.rate(300, 0), (1e-3 + 1e-5) / 2.0);
        close(cosine.rate(500, 0), 1e-5);
        close(cosine.rate(5000, 0), 1e-5);
        let linear = schedule(Decay::Linear { updates: 500, last: 0.0 });
        close(linear.rate(200, 0), 7.5e-4);
        close(linear.rate(500, 0), 0.0);
        close(linear.rate(501, 0), 0.0);
    }

    #[test]
    fn no_warm_up_begins_at_the_peak() {
        for decay in [Decay::None, Decay::InverseSqrt, Decay::Linear { updates: 10, last: 0.0 }] {
            let rate = Schedule::Peak { peak: 1.0, warmup: 0, decay }.rate(1, 0);
            assert!(rate.is_finite() && rate > 0.8, "{decay:?} {rate}");
        }
    }
}
