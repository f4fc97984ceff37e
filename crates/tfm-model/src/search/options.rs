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

/// The options of a search. Lengths count the tokens after the decoder's start token: those of the
/// prefix, those generated and the end of sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// The token the decoder starts with. It is no part of the output, but repetitions of it count.
    pub decoder_start: u32,
    /// The tokens that end a sentence. If there are none, every hypothesis has the maximum length.
    pub eos: Vec<u32>,
    /// Hypotheses kept at each step; 1 is greedy search.
    pub beams: usize,
    /// Hypotheses returned, at most `beams`.
    pub n_best: usize,
    /// A score is the sum of log-probabilities divided by the number of generated tokens to this
    /// power. In f64, as `transformers` has it: from an f32 the last bit of a score would differ.
    pub length_penalty: f64,
    /// When to stop.
    pub early_stopping: EarlyStopping,
    /// The most tokens of a hypothesis, at least 1. `max_length` of `transformers` less 1 (it
    /// counts the start token); its `max_new_tokens` plus the length of the prefix.
    pub max_length: usize,
    /// The tokens that must precede an end of sentence. `min_length` of `transformers` less 1 (at
    /// least 0); its `min_new_tokens` plus the length of the prefix.
    pub min_length: usize,
    /// The tokens every hypothesis starts with (`decoder_input_ids` without the start token). They
    /// are part of the output, but add nothing to scores nor to the length that divides them.
    pub prefix: Vec<u32>,
    /// The first token, with log-probability 0. As in `transformers`, without effect where there is
    /// a prefix.
    pub forced_bos: Option<u32>,
    /// The tokens of which one, with log-probability 0, is the last where the maximum length is
    /// reached.
    pub forced_eos: Vec<u32>,
    /// Tokens and sequences of tokens that are not generated (`bad_words_ids`). An end of sentence
    /// alone can't be banned: it is left out.
    pub banned: Vec<Vec<u32>>,
    /// No n-gram of this size is generated twice; 0 for no such limit.
    pub no_repeat_ngram: usize,
    /// Log-probabilities of tokens that occurred are multiplied by this; at least 1, which changes
    /// nothing.
    pub repetition_penalty: f32,
    /// Whether log-probabilities are normalised again among the tokens that are not banned outright
    /// (`renormalize_logits`). Whoever computes a step's candidates sees to it: the bans of
    /// [`static_bans`] then go before the softmax.
    pub renormalize: bool,
    /// Whether scores are wanted. Greedy search finds the same tokens faster without: which is the most probable is known
    /// without the probabilities. All are then 0.
    pub scores: bool,
}

impl SearchOptions {
    /// Greedy search with no limits but the maximum length.
    pub fn new(decoder_start: u32, eos: Vec<u32>, max_length: usize) -> Self {
        SearchOptions {
            decoder_start,
            eos,
            beams: 1,
            n_best: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            max_length,
            min_length: 0,
            prefix: Vec::new(),
            forced_bos: None,
            forced_eos: Vec::new(),
            banned: Vec::new(),
            no_repeat_ngram: 0,
            repetition_penalty: 1.0,
            renormalize: false,
            scores: true,
        }
    }

    /// Checks the options for a model with `vocabulary` target tokens.
    ///
    /// # Errors
    /// The first option that makes no sense, and what it may be.
    pub fn validate(&self, vocabulary: usize) -> Result<(), SearchError> {
        if self.beams == 0 {
            return Err(SearchError::NoBeams);
        }
        if !(1..=self.beams).contains(&self.n_best) {
            return Err(SearchError::NBest { n_best: self.n_best, beams: self.beams });
        }
        if !self.length_penalty.is_finite() {
            return Err(SearchError::LengthPenalty(self.length_penalty));
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty >= 1.0) {
            return Err(SearchError::RepetitionPenalty(self.repetition_penalty));
        }
        if self.prefix.len() >= self.max_length {
            return Err(SearchError::MaxLength { max: self.max_length, prefix: self.prefix.len() });
        }
        if self.min_length > self.max_length {
            return Err(SearchError::MinLength { min: self.min_length, max: self.max_length });
        }
        if let Some(index) = self.banned.iter().position(Vec::is_empty) {
            return Err(SearchError::EmptyBan { index });
        }
        let lists = [
            ("the decoder's start", std::slice::from_ref(&self.decoder_start)),
            ("end of sentence", &self.eos),
            ("prefix", &self.prefix),
            ("forced first", self.forced_bos.as_slice()),
            ("forced last", &self.forced_eos),
        ];
        let banned = self.banned.iter().map(|sequence| ("banned", sequence.as_slice()));
        for (role, tokens) in lists.into_iter().chain(banned) {
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(SearchError::OutOfVocabulary { role, token, vocabulary });
            }
        }
        Ok(())
    }

    /// Whether the search ranks tokens by their probabilities. If not, logits will do.
    pub(crate) fn needs_probabilities(&self) -> bool {
        self.scores || self.beams > 1 || self.renormalize || self.repetition_penalty != 1.0
    }

    /// The tokens one of which must follow `length` tokens, each with log-probability 0; `None` for
    /// a free choice.
    pub(super) fn forced(&self, length: usize) -> Option<&[u32]> {
        if let Some(token) = self.prefix.get(length) {
            return Some(std::slice::from_ref(token));
        }
        if length + 1 == self.max_length && !self.forced_eos.is_empty() {
            return Some(&self.forced_eos);
        }
        match &self.forced_bos {
            Some(bos) if length == 0 => Some(std::slice::from_ref(bos)),
            _ => None,
        }
    }

    /// Whether anything but the minimum length changes log-probabilities by what went before.
    pub(super) fn watches_history(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.no_repeat_ngram > 0
            || self.banned.iter().any(|sequence| sequence.len() > 1)
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
pub fn static_bans(options: &SearchOptions) -> Vec<u32> {
    let single = |sequence: &Vec<u32>| match sequence[..] {
        [token] if !options.eos.contains(&token) => Some(token),
        _ => None,
    };
    options.banned.iter().filter_map(single).collect()
}

/// Why options make no sense.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SearchError {
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
    RepetitionPenalty(f32),
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
