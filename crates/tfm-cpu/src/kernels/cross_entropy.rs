//! The cross entropy of logits, with one target a row and label smoothing, and its gradient.
//!
//! The target's distribution is `(1 − ε)·onehot + ε/V`, as in "Attention is all you need", section
//! 5.4.

use super::math::exp;
use super::reduce::sum_of;
use super::rows::Rows;
use super::simd::{Isa, Kernel, Simd};
use super::softmax::{max, sum_of_exponentials};
use super::threads::{SharedMut, Threads};

/// Computes for each row z of `logits [t, v]` `log_sum_exp = log Σ exp z` and `loss = (1 −
/// ε)·(log_sum_exp − z_target) + ε·(log_sum_exp − mean z)`. Panics if a target is not a column.
pub fn cross_entropy(
    isa: Isa,
    threads: &Threads,
    logits: Rows<'_>,
    targets: &[i32],
    smoothing: f32,
    [loss, log_sum_exp]: [&mut [f32]; 2],
) {
    let (rows, v) = (logits.rows(), logits.cols());
    assert!([targets.len(), loss.len(), log_sum_exp.len()] == [rows; 3], "one of each for a row");
    let log_sum_exp = SharedMut::new(log_sum_exp);
    threads.rows(loss, 1, 30 * v, |range, loss| {
        // SAFETY: ranges of different tasks do not overlap, and each task runs once.
        let log_sum_exp = unsafe { log_sum_exp.slice(range.clone()) };
        for ((row, loss), log_sum_exp) in range.zip(loss).zip(log_sum_exp) {
            let (x, target) = (logits.row(row), column(targets[row], v));
            let (log_sum, mean) = isa.run(Sums { x, with_mean: smoothing != 0.0 });
            *log_sum_exp = log_sum;
            *loss = (1.0 - smoothing) * (log_sum - x[target]) + smoothing * (log_sum - mean);
        }
    });
}

/// A target as the index of a column.
fn column(target: i32, v: usize) -> usize {
    let column = usize::try_from(target).unwrap_or(usize::MAX);
    assert!(column < v, "target {target} of {v}");
    column
}

/// log Σ exp x, and the mean of x, which is 0 if it is not wanted.
struct Sums<'a> {
    x: &'a [f32],
    with_mean: bool,
}

impl Kernel for Sums<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let max = max(s, self.x);
        let sum = sum_of_exponentials(s, self.x, max);
        let mean = if self.with_mean {
            // Sum the differences from the maximum, so that a common offset costs no accuracy.
            let shift = s.splat(max);
            max + sum_of(s, self.x, |x| s.sub(x, shift)) / self.x.len() as f32
        } else {
            0.0
        };
        (max + sum.ln(), mean)
    }
}

/// Replaces each row z of `logits [t, v]` by the gradient of its loss times `d_loss`,
/// `d_loss·(exp(z − log_sum_exp) − (1 − ε)·onehot − ε/V)`. Panics if a target is not a column.
pub fn cross_entropy_gradient(
    isa: Isa,
    threads: &Threads,
    logits: &mut [f32],
    targets: &[i32],
    log_sum_exp: &[f32],
    smoothing: f32,
    d_loss: &[f32],
) {
    let rows = targets.len();
    let v = logits.len().checked_div(rows).unwrap_or(0);
    assert!(logits.len() == rows * v && [log_sum_exp.len(), d_loss.len()] == [rows; 2]);
    threads.rows(logits, v, 20 * v, |range, logits| {
        for (row, x) in range.zip(logits.chunks_exact_mut(v)) {
            let target = column(targets[row], v);
            let uniform = d_loss[row] * smoothing / v as f32;
            isa.run(Row { x, log_sum_exp: log_sum_exp[row], d_loss: d_loss[row], uniform });
            x[target] -= d_loss[row] * (1.0 - smoothing);
        }
    });
}

/// `x = d_loss·exp(x − log_sum_exp) − uniform`.
struct Row<'a> {
    x: &'a mut [f32],
    log_sum_exp: f32,
    d_loss: f32,
    uniform: f32,
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [shift, factor, uniform] =
            [s.splat(self.log_sum_exp), s.splat(self.d_loss), s.splat(-self.uniform)];
        let mut whole = self.x.chunks_exact_mut(S::LANES);
        for x in &mut whole {
            s.store(s.fma(factor, exp(s, s.sub(s.load(x), shift)), uniform), x);
        }
        let x = whole.into_remainder();
        s.store_partial(s.fma(factor, exp(s, s.sub(s.load_partial(x), shift)), uniform), x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, assert_same_bits, everywhere, noise};

    #[test]
    fn loss_and_gradient_equal_f64_with_any_threads() {
        for (rows, v) in [(1, 1), (3, 7), (5, 100), (60, 3001)] {
            let logits: Vec<f32> = noise(1, rows * v).iter().map(|x| x * 9.0 + 30.0).collect();
            let targets: Vec<i32> = (0..rows).map(|i| (i * 7919 % v) as i32).collect();
            let d_loss = noise(2, rows);
            for smoothing in [0.0f32, 0.1] {
                let e = smoothing as f64;
                let (mut losses, mut logs, mut gradient) = (vec![], vec![], vec![]);
                for i in 0..rows {
                    let z: Vec<f64> = logits[i * v..][..v].iter().map(|&z| z.into()).collect();
                    let log_sum = (z.iter().map(|z| (z - 30.0).exp()).sum::<f64>()).ln() + 30.0;
                    let (target, mean) = (targets[i] as usize, z.iter().sum::<f64>() / v as f64);
                    losses.push((1.0 - e) * (log_sum - z[target]) + e * (log_sum - mean));
                    logs.push(log_sum);
                    gradient.extend(z.iter().enumerate().map(|(j, z)| {
                        let hot = if j == target { 1.0 - e } else { 0.0 };
                        d_loss[i] as f64 * ((z - log_sum).exp() - hot - e / v as f64)
                    }));
                }
                let mut first: Option<(Isa, Vec<f32>)> = None;
                everywhere(|isa, threads| {
                    let [mut loss, mut log_sum_exp] = [(); 2].map(|()| vec![9.0; rows]);
                    let x = Rows::contiguous(&logits, v);
                    let out = [&mut loss[..], &mut log_sum_exp[..]];
                    cross_entropy(isa, threads, x, &targets, smoothing, out);
                    assert_near(&loss, &losses, 1e-5);
                    assert_near(&log_sum_exp, &logs, 1e-5);
                    let mut x = logits.clone();
                    let (log_sum_exp, d) = (&log_sum_exp[..], &d_loss[..]);
                    cross_entropy_gradient(
                        isa,
                        threads,
                        &mut x,
                        &targets,
                        log_sum_exp,
                        smoothing,
                        d,
                    );
                    assert_near(&x, &gradient, 5e-6);
                    x.extend(loss);
                    match &first {
                        Some((set, bits)) if *set == isa => assert_same_bits(&x, bits),
                        _ => first = Some((isa, x)),
                    }
                });
            }
        }
    }

    #[test]
    #[should_panic(expected = "target 3 of 3")]
    fn a_target_outside_the_columns() {
        let (threads, x) = (Threads::new(1).unwrap(), [0.0; 3]);
        let out = [&mut [0.0][..], &mut [0.0][..]];
        cross_entropy(Isa::best(), &threads, Rows::contiguous(&x, 3), &[3], 0.0, out);
    }
}
