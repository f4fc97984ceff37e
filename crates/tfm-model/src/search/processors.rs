//! What the past of a hypothesis does to the log-probabilities of its next token.

use super::options::SearchOptions;

/// The tokens of one row whose log-probabilities are changed. Sorted.
#[derive(Debug, Clone, Default)]
pub(super) struct RowEdits {
    /// These can't come next.
    banned: Vec<u32>,
    /// These occurred already.
    repeated: Vec<u32>,
}

impl RowEdits {
    /// Finds the edits for what follows `tokens`, the start token included.
    pub(super) fn find(&mut self, options: &SearchOptions, tokens: &[u32]) {
        self.banned.clear();
        let size = options.no_repeat_ngram;
        if size > 0 && tokens.len() >= size {
            let suffix = &tokens[tokens.len() + 1 - size..];
            let repeats = tokens.windows(size).filter(|ngram| ngram[..size - 1] == *suffix);
            self.banned.extend(repeats.map(|ngram| ngram[size - 1]));
        }
        for sequence in &options.banned {
            if let [before @ .., last] = &sequence[..]
                && !before.is_empty()
                && tokens.ends_with(before)
            {
                self.banned.push(*last);
            }
        }
        self.repeated.clear();
        if options.repetition_penalty != 1.0 {
            self.repeated.extend_from_slice(tokens);
        }
        for list in [&mut self.banned, &mut self.repeated] {
            list.sort_unstable();
            list.dedup();
        }
    }

    /// How many candidates the edits can take away from the top of a row.
    pub(super) fn len(&self) -> usize {
        self.banned.len() + self.repeated.len()
    }

    pub(super) fn bans(&self, token: u32) -> bool {
        self.banned.binary_search(&token).is_ok()
    }

    pub(super) fn repeats(&self, token: u32) -> bool {
        self.repeated.binary_search(&token).is_ok()
    }
}

/// A repeated token's log-probability: its logit less `log_sum_exp` after the penalty, which makes
/// logits smaller whatever their sign. With a `log_sum_exp` of 0 the penalty is on the
/// log-probability itself.
pub(super) fn penalise(log_probability: f32, log_sum_exp: f32, penalty: f32) -> f32 {
    let logit = log_probability + log_sum_exp;
    let penalised = if logit < 0.0 { logit * penalty } else { logit / penalty };
    penalised - log_sum_exp
}
