//! What a user may ask of a translator.

use crate::{Error, Model, Result};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tfm_model::generation::GenerationOptions;
use tfm_text::Shortlist;

/// More beams than this are a mistake, and their memory is not there.
const MOST_BEAMS: usize = 1024;

/// The numbers in which a model is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ComputeType {
    /// Floats of 32 bits.
    #[default]
    F32,
    /// Floats of 16 bits with 5 in the exponent: CUDA alone.
    F16,
    /// Floats of 16 bits with the range of `F32`. On the processor it is weights that have 16 bits,
    /// and what they are multiplied with.
    BF16,
    /// Weights, and what they are multiplied with, in integers of 8 bits, everything else in 32
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
/// let compute = tfm::Compute { dtype: tfm::ComputeType::Int8, ..tfm::Compute::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compute {
    /// The numeric type: shorter ones are faster and take less memory. Scores are in 32 bits
    /// always.
    pub dtype: ComputeType,
    /// Source tokens encoded together: more is faster, less takes less memory.
    pub batch_tokens: Option<NonZeroUsize>,
    /// Bytes of keys and values up to which a worker takes on another sentence: what long sources
    /// may take. Without it, 512 MiB on the processor and 8 GiB on a CUDA device.
    pub memory: Option<usize>,
    /// Whether each worker is bound to a processor of its own, where the system can.
    pub pin: bool,
    /// Let each translation choose among the tokens that a shortlist of this model has for its
    /// source: faster, and a little less exact.
    pub shortlist: Option<Arc<Shortlist>>,
}

/// How to translate. What is not set follows the model's own generation settings.
///
/// ```
/// let options = tfm::Options { beams: Some(1), ..tfm::Options::default() };
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Hypotheses kept at each step; 1 is greedy search.
    pub beams: Option<usize>,
    /// How many translations to return for each sentence, the best first; at most as many as beams.
    pub n_best: usize,
    /// Scores are divided by length to this power: more than 0 favours long translations.
    pub length_penalty: Option<f64>,
    /// A translation ends at this many tokens, its end token among them.
    pub max_new_tokens: Option<usize>,
    /// A translation does not end before this many tokens.
    pub min_new_tokens: Option<usize>,
    /// Whether tokens are drawn by their probabilities instead of being searched for. There are no
    /// beams then, and `n_best` translations are independent draws, in no order.
    pub sample: Option<bool>,
    /// What is drawn: the same seed gives the same translations, on any device.
    pub seed: u64,
    /// What logits are divided by before a token is drawn: below 1 for more probable tokens.
    pub temperature: Option<f64>,
    /// A token is drawn among so many of the most probable; 0 for all.
    pub top_k: Option<usize>,
    /// A token is drawn among the most probable ones that have this share of all probability.
    pub top_p: Option<f64>,
    /// A token is drawn among those that have at least this share of the greatest probability.
    pub min_p: Option<f64>,
    /// A token is drawn among those of most typical information that have this share of all
    /// probability.
    pub typical_p: Option<f64>,
    /// What the logits of tokens that occurred are divided by: above 1 for fewer repetitions.
    pub repetition_penalty: Option<f64>,
    /// No n-gram of this size comes twice; 0 for no such limit.
    pub no_repeat_ngram_size: Option<usize>,
    /// The language to translate to, for models that know several: a code of
    /// [`Model::languages`](crate::Model::languages).
    pub target_language: Option<String>,
    /// Whether translations come with their scores. Greedy search (one beam) finds the same words
    /// faster without; scores are then 0.
    pub scores: bool,
    /// Return with each translation which source tokens its tokens attended to.
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
            scores: true,
            alignments: false,
        }
    }
}

impl Options {
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
