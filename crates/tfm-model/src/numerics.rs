//! How a model is computed, apart from what it is: its files have no say in it.

use tfm_core::DType;
use tfm_core::fused::Precision;

/// The types of numbers that a model is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numerics {
    /// The type in which weights are kept and values computed; logits are `F32` whatever it is.
    pub dtype: DType,
    /// The precision of products with weights and of the embeddings.
    pub precision: Precision,
    /// The type in which a decoder keeps keys and values from step to step.
    pub key_dtype: DType,
}

impl Default for Numerics {
    /// `F32` throughout.
    fn default() -> Self {
        Numerics { dtype: DType::F32, precision: Precision::Full, key_dtype: DType::F32 }
    }
}
