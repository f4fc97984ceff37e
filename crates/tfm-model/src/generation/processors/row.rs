//! What holds of one row of log-probabilities.

use super::Edits;
use crate::generation::GenerationOptions;

/// How many candidates beyond those that may be chosen are seen where what is left after edits is
/// normalised again. An edited token further down is taken to have no probability worth counting.
pub(crate) const RENORMALISING_MARGIN: usize = 64;

/// What holds of one row of log-probabilities.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRules<'a> {
    pub(crate) options: &'a GenerationOptions,
    /// Tokens that are banned whatever went before and have not −∞ in the row, ascending.
    pub(crate) banned: &'a [u32],
    pub(crate) eos_banned: bool,
    pub(crate) edits: Option<&'a Edits>,
    /// What the logits are more than the log-probabilities, where it is logits that are edited;
    /// else 0.
    pub(crate) log_sum_exp: f32,
}

impl RowRules<'_> {
    /// Whether anything is changed.
    pub(crate) fn any(&self) -> bool {
        self.eos_banned || self.edits.is_some() || !self.banned.is_empty()
    }

    /// A token's log-probability after the edits, −∞ if it is banned.
    pub(crate) fn edit(&self, token: u32, log_probability: f32) -> f32 {
        if self.banned.binary_search(&token).is_ok()
            || self.eos_banned && self.options.eos_token_id.contains(&token)
        {
            return f32::NEG_INFINITY;
        }
        let edited = self.edits.and_then(|edits| {
            let logit = edits.apply(token, || log_probability + self.log_sum_exp)?;
            Some(logit - self.log_sum_exp)
        });
        edited.unwrap_or(log_probability)
    }

    /// The logarithm of the probability that is left after the edits, where log-probabilities are
    /// to be normalised again; else 0. Of candidates that need not be the whole row.
    pub(crate) fn normalizer(&self, log_probabilities: &[f32], ids: &[i32]) -> f32 {
        if !self.options.renormalize_logits || !self.any() {
            return 0.0;
        }
        let (mut seen, mut lost) = (0.0, 0.0);
        for (&before, &id) in
            log_probabilities.iter().zip(ids).filter(|(value, _)| value.is_finite())
        {
            let after = f64::from(self.edit(id as u32, before)).exp();
            seen += after;
            lost += f64::from(before).exp() - after;
        }
        // What is left can't be less than what is seen of it; the difference from 1 loses digits.
        f64::max(1.0 - lost, seen).ln() as f32
    }
}
