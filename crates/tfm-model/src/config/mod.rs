//! What a model computes, as data: one description for every family of encoder-decoder
//! Transformers. How files name its parts is a matter of [families](crate::families), how it is
//! computed one of [`Numerics`](crate::Numerics).

mod check;
mod parts;

pub use parts::*;
pub use tfm_core::fused::Activation;

use crate::fault::Fault;

/// The description of an encoder-decoder Transformer, by its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Features of a token's representation.
    pub d_model: usize,
    /// The encoder's layers.
    pub encoder: Stack,
    /// The decoder's layers.
    pub decoder: Stack,
    /// The attention of each decoder layer to the encoder's output.
    pub cross_attention: Heads,
    /// What the encoder makes of source tokens.
    pub source: Embedding,
    /// What the decoder makes of target tokens.
    pub target: Embedding,
    /// Whether source and target share one embedding table.
    pub shared_embeddings: bool,
    /// How the decoder's output becomes logits.
    pub output: Output,
    /// The tokens with a role.
    pub special: SpecialTokens,
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
    /// Checks that the description makes sense: sizes above zero and not absurd, tokens inside the
    /// vocabulary.
    ///
    /// # Errors
    /// All faults, by the names of the fields in `config.json`.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        check::check(self)
    }
}
