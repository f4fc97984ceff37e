//! What a model computes of each token.

/// A vector of numbers for each token of a text: a matrix `[tokens, width]`.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct TokenVectors {
    /// The tokens, as the vocabulary writes them.
    pub tokens: Vec<String>,
    /// How many numbers each vector has.
    pub width: usize,
    /// The vectors, one after the other.
    pub values: Vec<f32>,
}

impl TokenVectors {
    /// The vectors, in the order of the tokens.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}
