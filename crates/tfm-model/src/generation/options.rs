//! What is asked for.

/// `top_h` looks at so many of the most probable tokens.
pub(super) const ENTROPY_TOKENS: usize = 100;

/// When a beam search may stop although live hypotheses remain. It never does before as many
/// hypotheses are finished as there are beams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
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
/// `transformers`. A model's own settings (`generation_config.json`) are such options, and so is
/// what a request asks for.
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
    /// No n-gram of this size of the source is generated; 0 for no such limit.
    pub encoder_no_repeat_ngram_size: usize,
    /// What logits (in beam search log-probabilities) of tokens that occurred are divided by, or
    /// multiplied by if they are negative: above 1 for fewer repetitions, 1 changes nothing.
    pub repetition_penalty: f64,
    /// As `repetition_penalty`, the other way round, of the source's tokens: above 1 for more of
    /// them.
    pub encoder_repetition_penalty: f64,
    /// What is added to the last token of a sequence where the others stand before it.
    pub sequence_bias: Vec<(Vec<u32>, f64)>,
    /// Tokens that are not generated.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that are not generated first.
    pub begin_suppress_tokens: Vec<u32>,
    /// The number of new tokens from which on ends of sequence become more probable, and the base
    /// of their growth.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Whether log-probabilities are normalised again among the tokens that are not banned
    /// outright. Whoever computes a step's candidates sees to it: the bans of [`static_bans`] then
    /// go before the softmax.
    pub renormalize_logits: bool,
    /// Whether tokens are drawn by their probabilities instead of being searched for.
    pub do_sample: bool,
    /// What is drawn. The same seed gives the same text.
    pub seed: u64,
    /// What logits are divided by before a token is drawn: below 1 for more probable tokens.
    pub temperature: f64,
    /// A token is drawn among so many of the most probable; 0 for all.
    pub top_k: usize,
    /// A token is drawn among the most probable ones that have this share of all probability.
    pub top_p: f64,
    /// A token is drawn among those that have at least this share of the greatest probability.
    pub min_p: Option<f64>,
    /// A token is drawn among those of most typical information that have this share of all
    /// probability.
    pub typical_p: f64,
    /// A token is drawn among the most probable ones that make up this share of the entropy.
    pub top_h: Option<f64>,
    /// A token is drawn among those with at least this probability; 0 for all.
    pub epsilon_cutoff: f64,
    /// As `epsilon_cutoff`, with a bound that is lower where the entropy is high; 0 for all.
    pub eta_cutoff: f64,
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
            encoder_no_repeat_ngram_size: 0,
            repetition_penalty: 1.0,
            encoder_repetition_penalty: 1.0,
            sequence_bias: Vec::new(),
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            exponential_decay_length_penalty: None,
            do_sample: false,
            seed: 0,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: None,
            typical_p: 1.0,
            top_h: None,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            renormalize_logits: false,
            scores: true,
        }
    }

    /// The most tokens after the start token, those of the prefix included, for a model with so
    /// many positions: at least 1.
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

    /// Whether the search ranks tokens by their probabilities. If not, logits will do.
    pub(crate) fn needs_probabilities(&self) -> bool {
        self.scores
            || self.num_beams > 1
            || self.renormalize_logits
            || self.do_sample
            || self.penalises()
            || !self.sequence_bias.is_empty()
    }

    /// Whether logits are changed in a way that depends on more than their differences.
    pub(super) fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.encoder_repetition_penalty != 1.0
            || self.exponential_decay_length_penalty.is_some()
    }

    /// How many of the most probable tokens a token is drawn from; where it is drawn from all, 1.
    pub(super) fn drawn_from(&self) -> usize {
        let of_entropy = if self.top_h.is_some() { ENTROPY_TOKENS } else { 0 };
        self.top_k.max(of_entropy)
    }

    /// The tokens one of which must follow `length` tokens where there are to be `longest` at most,
    /// each with log-probability 0; `None` for a free choice.
    pub(super) fn forced_tokens(&self, length: usize, longest: usize) -> Option<&[u32]> {
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

    /// The score of a hypothesis with this sum of log-probabilities and so many tokens: a finite
    /// number, also where it would be beyond them.
    pub(super) fn score(&self, sum: f32, length: usize) -> f32 {
        let generated = length.saturating_sub(self.prefix.len()).max(1);
        let divisor = (generated as f64).powf(self.length_penalty) as f32;
        let score = sum / divisor.clamp(f32::MIN_POSITIVE, f32::MAX);
        score.clamp(f32::MIN, f32::MAX)
    }
}

/// The tokens that are banned whatever went before, ascending: where rows come with bans, they have
/// the log-probability −∞ before the candidates of a step are chosen (after the softmax: bans do
/// not change the other tokens' log-probabilities).
pub fn static_bans(options: &GenerationOptions) -> Vec<u32> {
    let single = |sequence: &Vec<u32>| match sequence[..] {
        [token] if !options.eos_token_id.contains(&token) => Some(token),
        _ => None,
    };
    let words = options.bad_words_ids.iter().filter_map(single);
    let mut bans: Vec<u32> = words.chain(options.suppress_tokens.iter().copied()).collect();
    bans.sort_unstable();
    bans.dedup();
    bans
}
