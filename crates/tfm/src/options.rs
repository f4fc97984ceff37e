//! What a user may ask of a translator.

use crate::{Error, Model, Result};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tfm_model::generation::GenerationOptions;
use tfm_text::Shortlist;

/// The most beams. A larger number is a mistake, and would not fit in memory.
const MOST_BEAMS: usize = 1024;

/// The numeric type in which a model is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ComputeType {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats with an exponent of 5 bits (IEEE half precision): CUDA only.
    F16,
    /// 16-bit floats with the range of `F32` (bfloat16). On the CPU only weights, and the values
    /// they are multiplied with, have this type.
    BF16,
    /// 8-bit integers for weights and the values they are multiplied with; everything else has 32
    /// bits.
    Int8,
}

impl fmt::Display for ComputeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ComputeType::F32 => "f32",
            ComputeType::F16 => "f16",
            ComputeType::BF16 => "bf16",
            ComputeType::Int8 => "int8",
        })
    }
}

/// How a model is computed. What follows from it is the same for all translators that share the
/// model on a device.
///
/// ```
/// let compute = tfm::Compute::new().dtype(tfm::ComputeType::Int8).memory(1 << 30);
/// assert_eq!(compute.memory, Some(1 << 30));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Compute {
    /// The numeric type: shorter ones are faster and take less memory. Scores are in 32 bits
    /// always.
    pub dtype: ComputeType,
    /// Source tokens encoded together: more is faster, less takes less memory.
    pub batch_tokens: Option<NonZeroUsize>,
    /// A worker admits another sentence while its keys and values take at most this many bytes. The
    /// default is 512 MiB on the CPU and 8 GiB on a CUDA device.
    pub memory: Option<usize>,
    /// Whether each worker is bound to a processor of its own, where the system can.
    pub pin: bool,
    /// Only let each translation choose among the tokens that a shortlist of this model has for its
    /// source: faster, and a little less exact.
    pub shortlist: Option<Arc<Shortlist>>,
}

/// How to translate. The model's own generation settings apply where nothing is set.
///
/// ```
/// let options = tfm::Options::new().beams(4).n_best(2).target_language("fra");
/// assert_eq!((options.beams, options.n_best), (Some(4), 2));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Hypotheses kept at each step; 1 is greedy search.
    pub beams: Option<usize>,
    /// How many translations to return for each sentence, the best first; at most as many as beams.
    pub n_best: usize,
    /// Scores are divided by length to this power: more than 0 favours long translations.
    pub length_penalty: Option<f64>,
    /// The most tokens of a translation, with its end token.
    pub max_new_tokens: Option<usize>,
    /// The fewest tokens of a translation before its end token.
    pub min_new_tokens: Option<usize>,
    /// Whether to sample tokens by their probabilities instead of searching. Then there are no
    /// beams, and the `n_best` translations are independent samples, in no order.
    pub sample: Option<bool>,
    /// The seed of sampling: the same seed gives the same translations, on any device.
    pub seed: u64,
    /// The divisor of logits before sampling: below 1 for more probable tokens.
    pub temperature: Option<f64>,
    /// Sample among this many of the most probable tokens; 0 for all.
    pub top_k: Option<usize>,
    /// Sample among the most probable tokens that together have this probability.
    pub top_p: Option<f64>,
    /// Sample among the tokens that have at least this share of the greatest probability.
    pub min_p: Option<f64>,
    /// Sample among the tokens of most typical information that together have this probability.
    pub typical_p: Option<f64>,
    /// The penalty for tokens that occurred before: above 1 for fewer repetitions.
    pub repetition_penalty: Option<f64>,
    /// The size of n-grams that may occur only once; 0 for no such limit.
    pub no_repeat_ngram_size: Option<usize>,
    /// The language to translate to, for models that have several: a code of
    /// [`Model::languages`](crate::Model::languages).
    pub target_language: Option<String>,
    /// What every translation begins with; its text is a part of the result. A word that is cut in
    /// two here is not joined again: end it where a word ends.
    pub target_prefix: Option<String>,
    /// Whether to compute scores. Without them greedy search (one beam) finds the same words
    /// faster; scores are then 0.
    pub scores: bool,
    /// Whether to return which source tokens the tokens of each translation attended to.
    pub alignments: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            beams: None,
            n_best: 1,
            length_penalty: None,
            max_new_tokens: None,
            min_new_tokens: None,
            sample: None,
            seed: 0,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            repetition_penalty: None,
            no_repeat_ngram_size: None,
            target_language: None,
            target_prefix: None,
            scores: true,
            alignments: false,
        }
    }
}

/// Methods that set one field each and give the whole back.
macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident($value:ident: $type:ty) = $set:expr;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, $value: $type) -> Self {
            self.$field = $set;
            self
        }
    )*};
}

impl Compute {
    /// In f32, with the device's own limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets the numeric type.
        dtype(dtype: ComputeType) = dtype;
        /// Sets how many source tokens are encoded together.
        batch_tokens(tokens: NonZeroUsize) = Some(tokens);
        /// Sets the bytes of keys and values while which a worker admits another sentence.
        memory(bytes: usize) = Some(bytes);
        /// Sets whether each worker is bound to a processor.
        pin(pin: bool) = pin;
        /// Sets the shortlist to choose tokens from.
        shortlist(shortlist: Arc<Shortlist>) = Some(shortlist);
    }
}

impl Options {
    /// The model's own settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets how many hypotheses are kept at each step; 1 is greedy search.
        beams(beams: usize) = Some(beams);
        /// Sets how many translations are returned for each sentence.
        n_best(count: usize) = count;
        /// Sets the power of the length that scores are divided by.
        length_penalty(penalty: f64) = Some(penalty);
        /// Sets the most tokens of a translation.
        max_new_tokens(tokens: usize) = Some(tokens);
        /// Sets the fewest tokens of a translation before its end token.
        min_new_tokens(tokens: usize) = Some(tokens);
        /// Sets whether tokens are sampled instead of searched for.
        sample(sample: bool) = Some(sample);
        /// Sets the seed of sampling.
        seed(seed: u64) = seed;
        /// Sets the divisor of logits before sampling.
        temperature(temperature: f64) = Some(temperature);
        /// Sets how many of the most probable tokens are sampled among; 0 for all.
        top_k(tokens: usize) = Some(tokens);
        /// Sets the probability that the sampled tokens have together.
        top_p(probability: f64) = Some(probability);
        /// Sets the share of the greatest probability that sampled tokens have at least.
        min_p(share: f64) = Some(share);
        /// Sets the probability that the sampled tokens of most typical information have together.
        typical_p(probability: f64) = Some(probability);
        /// Sets the penalty for tokens that occurred before.
        repetition_penalty(penalty: f64) = Some(penalty);
        /// Sets the size of n-grams that may occur only once; 0 for no such limit.
        no_repeat_ngram_size(size: usize) = Some(size);
        /// Sets the language to translate to.
        target_language(code: impl Into<String>) = Some(code.into());
        /// Sets what every translation begins with.
        target_prefix(text: impl Into<String>) = Some(text.into());
        /// Sets whether scores are computed.
        scores(scores: bool) = scores;
        /// Sets whether alignments are returned.
        alignments(alignments: bool) = alignments;
    }

    /// What to search for: these options, and the model's own settings where they leave it open.
    ///
    /// # Errors
    /// [`Error::Option`], for what makes no sense with this model.
    pub(crate) fn generation(&self, model: &Model) -> Result<GenerationOptions> {
        let config = model.config();
        let mut options = model.generation().clone();
        if let Some(beams) = self.beams {
            options.num_beams = beams;
        }
        if options.num_beams > MOST_BEAMS {
            let problem = format!("{} are too many: at most {MOST_BEAMS}", options.num_beams);
            return Err(Error::Option { option: "beams", problem });
        }
        options.do_sample = self.sample.unwrap_or(options.do_sample);
        if self.sample == Some(true) && self.beams.is_none() {
            options.num_beams = 1;
        }
        options.seed = self.seed;
        options.min_p = self.min_p.or(options.min_p);
        let own = &mut options;
        for (number, asked) in [
            (&mut own.temperature, self.temperature),
            (&mut own.top_p, self.top_p),
            (&mut own.typical_p, self.typical_p),
            (&mut own.repetition_penalty, self.repetition_penalty),
            (&mut own.length_penalty, self.length_penalty),
        ] {
            *number = asked.unwrap_or(*number);
        }
        options.top_k = self.top_k.unwrap_or(options.top_k);
        options.no_repeat_ngram_size =
            self.no_repeat_ngram_size.unwrap_or(options.no_repeat_ngram_size);
        if let Some(prefix) = &self.target_prefix {
            options.prefix = model.tokenizer().encode_target_prefix(prefix)?;
        }
        options.num_return_sequences = self.n_best;
        options.scores = self.scores;
        let positions = config.target.longest_sequence();
        if let Some(most) = self.max_new_tokens {
            if most > positions {
                let problem = format!("{most}, but the model has {positions} positions");
                return Err(Error::Option { option: "max_new_tokens", problem });
            }
            options.max_new_tokens = Some(most);
        }
        // Whoever asks for less than the model's own minimum has the say.
        let own = options.shortest().min(options.longest(positions));
        options.min_new_tokens = Some(self.min_new_tokens.unwrap_or(own));
        options.validate(config.target.vocabulary, positions)?;
        Ok(options)
    }
}
