//! Which of a row's tokens may be drawn, and with what weight: temperature, then the truncations of
//! `transformers` in its order.

use super::Choice;
use crate::generation::options::{ENTROPY_TOKENS, GenerationOptions};

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::generation) struct Weighted {
    pub(in crate::generation) token: u32,
    /// What the model gives it, after the edits and before temperature and truncations.
    pub(super) log_probability: f32,
    /// Its logit over the temperature, less the greatest of the row.
    logit: f64,
    /// In proportion to its probability.
    pub(in crate::generation) weight: f64,
}

impl Weighted {
    /// A token that is the only choice, or one of several that are equal.
    pub(super) fn certain(token: u32) -> Self {
        Weighted { token, log_probability: 0.0, logit: 0.0, weight: 1.0 }
    }
}

/// What may be drawn of a row's tokens, in the order of their ids; at least the most probable one.
pub(in crate::generation) fn truncate(
    options: &GenerationOptions,
    mut choices: Vec<Choice>,
) -> Vec<Weighted> {
    choices.sort_unstable_by(Choice::better);
    let greatest = choices.first().map_or(0.0, |choice| f64::from(choice.log_probability));
    let weigh = |choice: &Choice| {
        let logit = (f64::from(choice.log_probability) - greatest) / options.temperature;
        let (token, log_probability) = (choice.token, choice.log_probability);
        Weighted { token, log_probability, logit, weight: logit.exp() }
    };
    // Best first.
    let mut row: Vec<Weighted> = choices.iter().map(weigh).collect();
    if let Some(share) = options.top_h {
        row.truncate(of_entropy(&row, share));
    }
    if options.top_k > 0 {
        row.truncate(options.top_k);
    }
    if options.top_p < 1.0 {
        row.truncate(of_mass(&row, options.top_p));
    }
    if let Some(share) = options.min_p {
        row.retain(|choice| choice.weight >= share);
    }
    if options.typical_p < 1.0 {
        keep_typical(&mut row, options.typical_p);
    }
    if options.epsilon_cutoff > 0.0 {
        keep_above(&mut row, options.epsilon_cutoff);
    }
    if options.eta_cutoff > 0.0 {
        let epsilon = options.eta_cutoff;
        let eta = epsilon.min(epsilon.sqrt() * (-entropy(&row)).exp());
        keep_above(&mut row, eta);
    }
    row.sort_unstable_by_key(|choice| choice.token);
    row
}

fn total(row: &[Weighted]) -> f64 {
    row.iter().map(|choice| choice.weight).sum()
}

/// −Σ p·ln p.
fn entropy(row: &[Weighted]) -> f64 {
    let (total, log_total) = (total(row), total(row).ln());
    row.iter().map(|choice| choice.weight / total * (log_total - choice.logit)).sum()
}

/// `top_p`: so many of the best that those after them have no more than 1 − `mass` together.
fn of_mass(row: &[Weighted], mass: f64) -> usize {
    let most = (1.0 - mass) * total(row);
    let mut rest = 0.0;
    let dropped = row.iter().rev().take_while(|choice| {
        rest += choice.weight;
        rest <= most
    });
    (row.len() - dropped.count()).max(1)
}

/// `top_h`: so many of the best hundred that their part of the hundred's entropy is at most
/// `share`.
fn of_entropy(row: &[Weighted], share: f64) -> usize {
    let row = &row[..row.len().min(ENTROPY_TOKENS)];
    let (total, log_total, most) = (total(row), total(row).ln(), share * entropy(row));
    let mut sum = 0.0;
    let kept = row.iter().take_while(|choice| {
        sum += choice.weight / total * (log_total - choice.logit);
        sum <= most
    });
    kept.count().max(1)
}

/// `typical_p`: those whose information is nearest to the entropy, until they have `mass` together.
/// (C. Meister et al., "Locally typical sampling", 2022.)
fn keep_typical(row: &mut Vec<Weighted>, mass: f64) {
    let (total, log_total, entropy) = (total(row), total(row).ln(), entropy(row));
    let distance = |choice: &Weighted| ((log_total - choice.logit) - entropy).abs();
    row.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    let mut sum = 0.0;
    let below = row.iter().take_while(|choice| {
        sum += choice.weight / total;
        sum < mass
    });
    let last = below.count().min(row.len().saturating_sub(1));
    if let Some(last) = row.get(last).map(distance) {
        row.retain(|choice| distance(choice) <= last);
    }
    row.sort_by(|a, b| b.logit.total_cmp(&a.logit));
}

/// `epsilon_cutoff` and `eta_cutoff`: those with at least this probability, and the best.
/// (J. Hewitt et al., "Truncation sampling as language model desmoothing", 2022.)
fn keep_above(row: &mut Vec<Weighted>, least: f64) {
    let least = least * total(row);
    let best = row.first().map_or(0.0, |choice| choice.logit);
    row.retain(|choice| choice.weight >= least || choice.logit == best);
}
