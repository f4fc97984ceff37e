//! What a search is asked for, and what can't be asked for.

use thiserror::Error;

/// When a beam search may stop although live hypotheses remain. It never does before as many
/// hypotheses are finished as there are beams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// When the best live hypothesis, scored at its present length, is no better than the worst
    /// finished one (`early_stopping=False`; a heuristic, since a longer hypothesis may yet score
    /// better).
    #[default]
    No,
    /// At once (`early_stopping=True`).
    Yes,
    /// When no live hypothesis can become better than the worst finished one
    /// (`early_stopping="never"`).
    Never,
}

/// What to generate, by the names and with the meaning of `GenerationConfig` of Hugging Face
/// `transformers`. A model's own settings (`generation_config.json`) are such options, and so is what
/// a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// The token the decoder starts with. It is no part of the output, but repetitions of it count.
    pub decoder_start_token_id: u32,
    /// The tokens that end a sequence. If there are none, every hypothesis has the maximum length.
    pub eos_token_id: Vec<u32>,
    /// Hypotheses kept at each step; 1 is greedy search.
    pub num_beams: usize,
    /// Hypotheses returned, at most `num_beams`.
    pub num_return_sequences: usize,
    /// A score is the sum of log-probabilities divided by the number of generated tokens to this
    /// power. In f64, as `transformers` has it: from an f32 the last bit of a score would differ.
    pub length_penalty: f64,
    /// When to stop.
    pub early_stopping: EarlyStopping,
    /// The most tokens of a hypothesis, the start token and the prefix included. Without it and
    /// `max_new_tokens`, the model's positions are the limit, which no length exceeds in any case;
    /// `transformers` stops at 20 there.
    pub max_length: Option<usize>,
    /// The most tokens after the prefix. It goes before `max_length`.
    pub max_new_tokens: Option<usize>,
    /// The tokens that precede an end of sequence, the start token and the prefix included.
    pub min_length: usize,
    /// The tokens after the prefix that precede an end of sequence. It goes before `min_length`.
    pub min_new_tokens: Option<usize>,
    /// The tokens every hypothesis starts with (`decoder_input_ids` without the start token). They
    /// are part of the output, but add nothing to scores nor to the length that divides them.
    pub prefix: Vec<u32>,
    /// The first token, with log-probability 0. As in `transformers`, without effect where there is
    /// a prefix.
    pub forced_bos_token_id: Option<u32>,
    /// The tokens of which one, with log-probability 0, is the last where the maximum length is
    /// reached.
    pub forced_eos_token_id: Vec<u32>,
    /// Tokens and sequences of tokens that are not generated. An end of sequence alone can't be
    /// banned: it is left out.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// No n-gram of this size is generated twice; 0 for no such limit.
    pub no_repeat_ngram_size: usize,
    /// Log-probabilities of tokens that occurred are multiplied by this; at least 1, which changes
    /// nothing.
    pub repetition_penalty: f64,
    /// Whether log-probabilities are normalised again among the tokens that are not banned outright.
    /// Whoever computes a step's candidates sees to it: the bans of [`static_bans`] then go before
    /// the softmax.
    pub renormalize_logits: bool,
    /// Whether scores are wanted. Greedy search finds the same tokens faster without: which is the
    /// most probable is known without the probabilities. All are then 0.
    pub scores: bool,
}

impl GenerationOptions {
    /// Greedy search with no limits but the model's positions.
    pub fn new(decoder_start_token_id: u32, eos_token_id: Vec<u32>) -> Self {
        GenerationOptions {
            decoder_start_token_id,
            eos_token_id,
            num_beams: 1,
            num_return_sequences: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            max_length: None,
            max_new_tokens: None,
            min_length: 0,
            min_new_tokens: None,
            prefix: Vec::new(),
            forced_bos_token_id: None,
            forced_eos_token_id: Vec::new(),
            bad_words_ids: Vec::new(),
            no_repeat_ngram_size: 0,
            repetition_penalty: 1.0,
            renormalize_logits: false,
            scores: true,
        }
    }

    /// The most tokens after the start token, those of the prefix included, for a model with so many
    /// positions: at least 1.
    pub fn longest(&self, positions: usize) -> usize {
        let new = self.max_new_tokens.map(|new| new.saturating_add(self.prefix.len()));
        let all = self.max_length.map(|length| length.saturating_sub(1));
        new.or(all).unwrap_or(usize::MAX).min(positions).max(1)
    }

    /// The tokens after the start token that precede an end of sequence, those of the prefix
    /// included.
    pub fn shortest(&self) -> usize {
        let new = self.min_new_tokens.map(|new| new.saturating_add(self.prefix.len()));
        new.unwrap_or(self.min_length.saturating_sub(1))
    }

    /// Checks the options for a model with `vocabulary` target tokens and so many `positions`.
    ///
    /// # Errors
    /// The first option that makes no sense, and what it may be.
    pub fn validate(&self, vocabulary: usize, positions: usize) -> Result<(), OptionsError> {
        let (longest, shortest) = (self.longest(positions), self.shortest());
        if self.num_beams == 0 {
            return Err(OptionsError::NoBeams);
        }
        if !(1..=self.num_beams).contains(&self.num_return_sequences) {
            let (n_best, beams) = (self.num_return_sequences, self.num_beams);
            return Err(OptionsError::NBest { n_best, beams });
        }
        if !self.length_penalty.is_finite() {
            return Err(OptionsError::LengthPenalty(self.length_penalty));
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty >= 1.0) {
            return Err(OptionsError::RepetitionPenalty(self.repetition_penalty));
        }
        if self.prefix.len() >= longest {
            return Err(OptionsError::MaxLength { max: longest, prefix: self.prefix.len() });
        }
        if shortest > longest {
            return Err(OptionsError::MinLength { min: shortest, max: longest });
        }
        if let Some(index) = self.bad_words_ids.iter().position(Vec::is_empty) {
            return Err(OptionsError::EmptyBan { index });
        }
        let lists = [
            ("the decoder's start", std::slice::from_ref(&self.decoder_start_token_id)),
            ("end of sequence", &self.eos_token_id),
            ("prefix", &self.prefix),
            ("forced first", self.forced_bos_token_id.as_slice()),
            ("forced last", &self.forced_eos_token_id),
        ];
        let banned = self.bad_words_ids.iter().map(|sequence| ("banned", sequence.as_slice()));
        for (role, tokens) in lists.into_iter().chain(banned) {
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(OptionsError::OutOfVocabulary { role, token, vocabulary });
            }
        }
        Ok(())
    }

    /// Whether the search ranks tokens by their probabilities. If not, logits will do.
    pub(crate) fn needs_probabilities(&self) -> bool {
        self.scores
            || self.num_beams > 1
            || self.renormalize_logits
            || self.repetition_penalty != 1.0
    }

    /// The tokens one of which must follow `length` tokens where there are to be `longest` at most,
    /// each with log-probability 0; `None` for a free choice.
    pub(super) fn forced(&self, length: usize, longest: usize) -> Option<&[u32]> {
        if let Some(token) = self.prefix.get(length) {
            return Some(std::slice::from_ref(token));
        }
        if length + 1 == longest && !self.forced_eos_token_id.is_empty() {
            return Some(&self.forced_eos_token_id);
        }
        match &self.forced_bos_token_id {
            Some(bos) if length == 0 => Some(std::slice::from_ref(bos)),
            _ => None,
        }
    }

    /// Whether anything but the minimum length changes log-probabilities by what went before.
    pub(super) fn watches_history(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.no_repeat_ngram_size > 0
            || self.bad_words_ids.iter().any(|sequence| sequence.len() > 1)
    }

    /// The score of a hypothesis with this sum of log-probabilities and so many tokens.
    pub(super) fn score(&self, sum: f32, length: usize) -> f32 {
        let generated = length.saturating_sub(self.prefix.len()).max(1);
        sum / (generated as f64).powf(self.length_penalty) as f32
    }
}

/// The tokens that are banned whatever went before. They are to be given the log-probability −∞
/// before the candidates of a step are chosen (after the softmax: bans do not change the other
/// tokens' log-probabilities).
pub fn static_bans(options: &GenerationOptions) -> Vec<u32> {
    let single = |sequence: &Vec<u32>| match sequence[..] {
        [token] if !options.eos_token_id.contains(&token) => Some(token),
        _ => None,
    };
    options.bad_words_ids.iter().filter_map(single).collect()
}

/// Why options make no sense.
#[derive(Debug, Clone, PartialEq, Error)]
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
    /// Not a finite number.
    #[error("the length penalty is {0}: give a finite number (1: by the length, 0: not at all)")]
    LengthPenalty(f64),
    /// Less than 1 or not finite.
    #[error(
        "the repetition penalty is {0}: give a finite number of at least 1 (1 changes nothing)"
    )]
    RepetitionPenalty(f64),
    /// No token may be generated.
    #[error(
        "the maximum length is {max}, with a prefix of {prefix} tokens: give at least one token more"
    )]
    MaxLength {
        /// The maximum length.
        max: usize,
        /// The prefix's length.
        prefix: usize,
    },
    /// A minimum above the maximum.
    #[error("the minimum length is {min}, above the maximum length {max}: lower it or raise that")]
    MinLength {
        /// The minimum length.
        min: usize,
        /// The maximum length.
        max: usize,
    },
    /// A banned sequence without tokens.
    #[error("banned sequence {index} (counted from 0) is empty: leave it out")]
    EmptyBan {
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
