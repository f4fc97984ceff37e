//! What the past of a hypothesis does to the log-probabilities of its next token.

use super::options::GenerationOptions;

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
    pub(super) fn find(&mut self, options: &GenerationOptions, tokens: &[u32]) {
        self.banned.clear();
        let size = options.no_repeat_ngram_size;
        if size > 0 && tokens.len() >= size {
            let suffix = &tokens[tokens.len() + 1 - size..];
            let repeats = tokens.windows(size).filter(|ngram| ngram[..size - 1] == *suffix);
            self.banned.extend(repeats.map(|ngram| ngram[size - 1]));
        }
        for sequence in &options.bad_words_ids {
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

    fn bans(&self, token: u32) -> bool {
        self.banned.binary_search(&token).is_ok()
    }

    fn repeats(&self, token: u32) -> bool {
        self.repeated.binary_search(&token).is_ok()
    }
}

/// How many candidates beyond those that may be chosen are seen where what is left after edits is
/// normalised again. An edited token further down is taken to have no probability worth counting.
pub(super) const RENORMALISING_MARGIN: usize = 64;

/// What holds of one row of log-probabilities.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRules<'a> {
    pub(super) options: &'a GenerationOptions,
    pub(super) edits: Option<&'a RowEdits>,
    pub(super) eos_banned: bool,
    /// What the logits are more than the log-probabilities, where they are what is penalised; else 0.
    pub(super) log_sum_exp: f32,
}

impl RowRules<'_> {
    /// A token's log-probability after the edits: never more than before, −∞ if it is banned.
    pub(super) fn edit(&self, token: u32, log_probability: f32) -> f32 {
        if self.eos_banned && self.options.eos_token_id.contains(&token) {
            return f32::NEG_INFINITY;
        }
        match self.edits {
            Some(edits) if edits.bans(token) => f32::NEG_INFINITY,
            Some(edits) if edits.repeats(token) => self.penalise(log_probability),
            _ => log_probability,
        }
    }

    /// A repeated token's log-probability: the penalty makes logits smaller, whatever their sign.
    fn penalise(&self, log_probability: f32) -> f32 {
        let (logit, penalty) =
            (log_probability + self.log_sum_exp, self.options.repetition_penalty as f32);
        let penalised = if logit < 0.0 { logit * penalty } else { logit / penalty };
        penalised - self.log_sum_exp
    }

    /// The logarithm of the probability that is left after the edits, where log-probabilities are to
    /// be normalised again; else 0.
    pub(super) fn normalizer(&self, log_probabilities: &[f32], ids: &[i32]) -> f32 {
        if !self.options.renormalize_logits || !(self.eos_banned || self.edits.is_some()) {
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
