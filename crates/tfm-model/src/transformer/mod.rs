//! The encoder-decoder Transformer as graphs, in the words of "Attention is all you need".
//!
//! One description serves every family: what differs is data in [`Config`](crate::Config).
//! Parameters are named by the scope they are used in, such as
//! `encoder.layers.3.self_attention.query.weight`.

mod attention;
mod decoder;
mod encoder;
mod layers;
mod learning;
pub mod positions;

pub use attention::Sequences;
pub use decoder::{Among, CacheRows, DecoderKeys, Listed};
pub use layers::Network;
pub use learning::{Adapters, DropoutRates, Learning, RANDOM_KEY, adapter_shapes};
