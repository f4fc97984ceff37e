//! What a model is, as data: one description for every family of encoder-decoder Transformers.

mod check;
mod fields;
mod generation;
mod read;
mod write;

pub use tfm_core::fused::Activation;

use crate::checkpoint::Fault;
use crate::generation::GenerationOptions;

/// The description of an encoder-decoder Transformer. Families differ in this data, and in how files name
/// the weights; not in code.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How files name the weights and the fields of `config.json`.
    pub family: Family,
    /// Features of a token's representation.
    pub d_model: usize,
    /// The encoder's layers.
    pub encoder: Stack,
    /// The decoder's layers.
    pub decoder: Stack,
    /// Tokens of the source vocabulary: rows of its embedding table.
    pub source_vocabulary: usize,
    /// Tokens of the target vocabulary: rows of its embedding table, and logits.
    pub target_vocabulary: usize,
    /// Where the layer norms stand.
    pub norm_placement: NormPlacement,
    /// Whether a layer norm follows the last layer of each stack.
    pub final_norm: bool,
    /// What layer norms add to the variance.
    pub norm_epsilon: f64,
    /// How positions enter.
    pub positions: Positions,
    /// The longest sequence, in tokens: rows of the position tables.
    pub max_positions: usize,
    /// What token embeddings are multiplied by: `√d_model` (section 3.4) or 1.
    pub embedding_scale: f64,
    /// The feed-forward network's activation.
    pub activation: Activation,
    /// Whether linear layers have biases. (Layer norms always do here; a file without them gives zeros.)
    pub linear_biases: bool,
    /// Whether source and target share one embedding table.
    pub shared_embeddings: bool,
    /// Whether the output projection is the target embedding table.
    pub tied_output: bool,
    /// Whether the logits have a bias.
    pub output_bias: bool,
    /// The tokens with a role.
    pub special: SpecialTokens,
}

/// Who defined the names in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Marian NMT in the form of Hugging Face `transformers`: OPUS-MT.
    Marian,
    /// The paper's Transformer with the names of `torch.nn.Transformer`.
    Transformer,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 2] = [Family::Marian, Family::Transformer];

    /// The `model_type` of `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Marian => "marian",
            Family::Transformer => "transformer",
        }
    }
}

/// A stack of equal layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stack {
    /// How many layers.
    pub layers: usize,
    /// Attention heads of a layer; they share `d_model` evenly.
    pub heads: usize,
    /// Inner features of the feed-forward network.
    pub ffn_dim: usize,
}

/// Where the layer norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormPlacement {
    /// After the residual sum: `norm(x + sublayer(x))`, as in the paper.
    Post,
    /// Before the sublayer: `x + sublayer(norm(x))`.
    Pre,
}

/// How positions enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Positions {
    /// The paper's sinusoids. They are computed, not read.
    Sinusoidal(SinusoidLayout),
    /// A learned table for each stack.
    Learned {
        /// The row of position 0: earlier rows of the table are not used.
        offset: usize,
    },
}

/// The order of sines and cosines in a position's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SinusoidLayout {
    /// `sin, cos, sin, cos, …`, as in the paper.
    Interleaved,
    /// All sines, then all cosines, as in Marian.
    Halves,
}

/// The tokens with a role, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begin of sentence, where there is one.
    pub bos: Option<u32>,
    /// End of sentence; the first is the one that tokenisers append. At least one.
    pub eos: Vec<u32>,
    /// Padding, where there is one: never in a computation here, but banned from the output.
    pub pad: Option<u32>,
    /// What the decoder starts with.
    pub decoder_start: u32,
}

impl Config {
    /// Reads `config.json`, and `generation_config.json` where a model has one.
    ///
    /// # Errors
    /// All faults: fields that are missing, of the wrong type, senseless or not supported.
    pub fn from_json(
        config: &[u8],
        generation: Option<&[u8]>,
    ) -> Result<(Config, GenerationOptions), Vec<Fault>> {
        read::read(config, generation)
    }

    /// The two files: `config.json` and `generation_config.json`.
    pub fn to_json(&self, generation: &GenerationOptions) -> [String; 2] {
        write::write(self, generation)
    }

    /// Checks that the description makes sense: sizes above zero and not absurd, heads that divide the
    /// features, tokens inside the vocabulary.
    ///
    /// # Errors
    /// All faults, by the names of the fields in `config.json`.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        check::check(self)
    }
}
