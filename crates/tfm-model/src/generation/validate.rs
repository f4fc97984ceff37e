//! Which options make sense together.

use super::options::{GenerationOptions, static_bans};
use thiserror::Error;

/// More sequences than this of one request are a mistake, and their memory is not there.
const MOST_SEQUENCES: usize = 1 << 10;

impl GenerationOptions {
    /// Checks the options for a model with `vocabulary` target tokens and so many `positions`.
    ///
    /// # Errors
    /// The first option that makes no sense, and what it may be.
    pub fn validate(&self, vocabulary: usize, positions: usize) -> Result<(), OptionsError> {
        let (longest, shortest) = (self.longest(positions), self.shortest());
        if self.num_beams == 0 {
            return Err(OptionsError::NoBeams);
        }
        if self.do_sample && self.num_beams > 1 {
            return Err(OptionsError::BeamSampling { beams: self.num_beams });
        }
        let most = if self.do_sample { MOST_SEQUENCES } else { self.num_beams };
        if !(1..=most).contains(&self.num_return_sequences) {
            let (n_best, beams) = (self.num_return_sequences, most);
            return Err(OptionsError::NBest { n_best, beams });
        }
        self.validate_numbers()?;
        let no_room = self.max_new_tokens == Some(0)
            || self.max_new_tokens.is_none() && self.max_length.is_some_and(|length| length < 2);
        if no_room || self.prefix.len() >= longest {
            let (max, prefix) = (if no_room { 0 } else { longest }, self.prefix.len());
            return Err(OptionsError::MaxLength { max, prefix });
        }
        if shortest > longest {
            return Err(OptionsError::MinLength { min: shortest, max: longest });
        }
        self.validate_tokens(vocabulary)?;
        if let Some((role, token)) = self.forced_and_suppressed() {
            return Err(OptionsError::ForcedAndSuppressed { role, token });
        }
        if static_bans(self).len() >= vocabulary {
            return Err(OptionsError::AllBanned { vocabulary });
        }
        Ok(())
    }

    /// A token that is forced, and suppressed all the same.
    pub(crate) fn forced_and_suppressed(&self) -> Option<(&'static str, u32)> {
        let first = self.forced_bos_token_id.as_slice();
        let forced = [
            ("forced_bos_token_id", first),
            ("forced_eos_token_id", &self.forced_eos_token_id[..]),
        ];
        forced.into_iter().find_map(|(role, tokens)| {
            let token = tokens.iter().find(|token| self.suppress_tokens.contains(token))?;
            Some((role, *token))
        })
    }

    fn validate_numbers(&self) -> Result<(), OptionsError> {
        match self.numbers().into_iter().find(|&(_, _, _, allowed)| !allowed) {
            Some((option, range, value, _)) => Err(OptionsError::Range { option, value, range }),
            None => Ok(()),
        }
    }

    /// Options that are numbers: what they may be, what they are, and whether they may.
    pub(crate) fn numbers(&self) -> [(&'static str, &'static str, f64, bool); 12] {
        const SHARE: &str = "above 0 and at most 1";
        let positive = |name, value: f64| {
            (name, "a finite number above 0", value, value.is_finite() && value > 0.0)
        };
        let share = |name, value: f64| (name, SHARE, value, value > 0.0 && value <= 1.0);
        let below_one =
            |name, value: f64| (name, "at least 0 and below 1", value, (0.0..1.0).contains(&value));
        let (_, decay) = self.exponential_decay_length_penalty.unwrap_or((0, 1.0));
        let min_p = self.min_p.unwrap_or(0.0);
        // The sum of all, over all steps, is a finite number in f32.
        let bias = self.sequence_bias.iter().map(|&(_, bias)| bias.abs());
        let bias = bias.sum::<f64>();
        let lengths = self.length_penalty;
        [
            positive("repetition_penalty", self.repetition_penalty),
            positive("encoder_repetition_penalty", self.encoder_repetition_penalty),
            positive("exponential_decay_length_penalty", decay),
            positive("temperature", self.temperature),
            ("top_p", "at least 0 and at most 1", self.top_p, (0.0..=1.0).contains(&self.top_p)),
            share("typical_p", self.typical_p),
            share("top_h", self.top_h.unwrap_or(1.0)),
            ("min_p", "at least 0 and at most 1", min_p, (0.0..=1.0).contains(&min_p)),
            below_one("epsilon_cutoff", self.epsilon_cutoff),
            below_one("eta_cutoff", self.eta_cutoff),
            ("sequence_bias", "at most 1e30 in sum, without signs", bias, bias <= 1e30),
            // Beyond, scores of long sequences are beyond the numbers of f32.
            ("length_penalty", "at least -10 and at most 10", lengths, lengths.abs() <= 10.0),
        ]
    }

    fn validate_tokens(&self, vocabulary: usize) -> Result<(), OptionsError> {
        let bans = self.bad_words_ids.iter().map(|sequence| ("bad_words_ids", &sequence[..]));
        let biased =
            self.sequence_bias.iter().map(|(sequence, _)| ("sequence_bias", &sequence[..]));
        for (option, index) in [
            ("bad_words_ids", self.bad_words_ids.iter().position(Vec::is_empty)),
            ("sequence_bias", self.sequence_bias.iter().position(|(tokens, _)| tokens.is_empty())),
        ] {
            if let Some(index) = index {
                return Err(OptionsError::EmptySequence { option, index });
            }
        }
        let lists = [
            ("decoder_start_token_id", std::slice::from_ref(&self.decoder_start_token_id)),
            ("eos_token_id", &self.eos_token_id[..]),
            ("prefix", &self.prefix),
            ("forced_bos_token_id", self.forced_bos_token_id.as_slice()),
            ("forced_eos_token_id", &self.forced_eos_token_id),
            ("suppress_tokens", &self.suppress_tokens),
            ("begin_suppress_tokens", &self.begin_suppress_tokens),
        ];
        for (role, tokens) in lists.into_iter().chain(bans).chain(biased) {
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(OptionsError::OutOfVocabulary { role, token, vocabulary });
            }
        }
        Ok(())
    }
}

/// Why options make no sense.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// No beams.
    #[error("beams is 0: give at least 1 (1 is greedy search)")]
    NoBeams,
    /// More hypotheses asked for than there are, or none.
    #[error("n-best is {n_best}: give 1 to {beams}, the number of beams, or more beams")]
    NBest {
        /// The hypotheses asked for.
        n_best: usize,
        /// The beams.
        beams: usize,
    },
    /// A number outside the range of its option.
    #[error("{option} is {value}, but must be {range}")]
    Range {
        /// The option.
        option: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// Sampling within a beam search.
    #[error(
        "do_sample with num_beams = {beams} (beam search that samples) is not supported: give one of the two"
    )]
    BeamSampling {
        /// The beams.
        beams: usize,
    },
    /// No token may be generated.
    #[error(
        "max_length or max_new_tokens leave room for {max} tokens after the decoder's start, \
         with a prefix of {prefix}: give at least one token more"
    )]
    MaxLength {
        /// The maximum length.
        max: usize,
        /// The prefix's length.
        prefix: usize,
    },
    /// A token that is forced and suppressed.
    #[error("the token {token} is the {role} and in suppress_tokens: take it out of one of them")]
    ForcedAndSuppressed {
        /// Which option forces it.
        role: &'static str,
        /// The token.
        token: u32,
    },
    /// No token is left.
    #[error(
        "all {vocabulary} tokens of the vocabulary are banned by suppress_tokens and \
         bad_words_ids: nothing could be generated; ban fewer"
    )]
    AllBanned {
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// A minimum above the maximum.
    #[error("the minimum length is {min}, above the maximum length {max}: lower it or raise that")]
    MinLength {
        /// The minimum length.
        min: usize,
        /// The maximum length.
        max: usize,
    },
    /// A sequence without tokens.
    #[error("sequence {index} (counted from 0) of {option} is empty: leave it out")]
    EmptySequence {
        /// Of which option.
        option: &'static str,
        /// Which one.
        index: usize,
    },
    /// A token the model does not have.
    #[error("the token {token} ({role}) is not in the vocabulary: give ids below {vocabulary}")]
    OutOfVocabulary {
        /// What it is for.
        role: &'static str,
        /// The token.
        token: u32,
        /// The vocabulary's size.
        vocabulary: usize,
    },
}
