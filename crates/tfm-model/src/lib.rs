//! The encoder-decoder Transformer: configuration, checkpoints, layers, decoding state and search.

pub mod search;
