//! Which tokens are picked of what the rows of a step offer. Greedy search is beam search with one
//! beam.

mod beam;
mod sample;
pub(super) mod truncation;

use crate::generation::processors::RowRules;
use crate::generation::search::Search;

/// A token that may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub(super) token: u32,
    /// After the edits.
    pub(super) log_probability: f32,
}

impl Choice {
    /// The more probable first, of equals the lower id.
    fn better(&self, other: &Self) -> std::cmp::Ordering {
        let by_probability = other.log_probability.total_cmp(&self.log_probability);
        by_probability.then(self.token.cmp(&other.token))
    }
}

impl Search {
    /// What may come next after a live hypothesis, in no order: of candidates with
    /// log-probabilities whose logits are `normalizer` more, or, without, of a whole row of logits.
    fn choices(
        &self,
        beam: usize,
        values: &[f32],
        ids: &[i32],
        normalizer: Option<f32>,
    ) -> Vec<Choice> {
        let sum = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|value| f64::from(value).exp()).sum()
        };
        let (shift, log_sum_exp, banned) = match normalizer {
            Some(normalizer) => (0.0, normalizer, &[][..]),
            None => {
                let greatest = values.iter().copied().fold(f32::MIN, f32::max);
                let sum = sum(&mut values.iter().map(|value| value - greatest));
                let log_sum_exp = f64::from(greatest) + sum.ln();
                // In beam search it is log-probabilities that are edited.
                let edited = if self.options.num_beams > 1 { 0.0 } else { log_sum_exp as f32 };
                (log_sum_exp, edited, &self.banned[..])
            }
        };
        let row = RowRules {
            options: &self.options,
            banned,
            eos_banned: self.eos_banned(),
            edits: self.edits.get(beam),
            log_sum_exp,
        };
        let choice = |(place, &value): (usize, &f32)| {
            let token = ids.get(place).map_or(place as u32, |&id| id as u32);
            let log_probability = row.edit(token, (f64::from(value) - shift) as f32);
            log_probability.is_finite().then_some(Choice { token, log_probability })
        };
        let mut choices: Vec<Choice> = values.iter().enumerate().filter_map(choice).collect();
        if self.options.renormalize_logits && row.any() && normalizer.is_none() {
            let all = choices.iter().map(|choice| choice.log_probability);
            let greatest = all.clone().fold(f32::MIN, f32::max);
            let left = greatest + sum(&mut all.map(|value| value - greatest)).ln() as f32;
            choices.iter_mut().for_each(|choice| choice.log_probability -= left);
        }
        choices
    }
}
