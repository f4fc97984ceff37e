//! From files to batches: reading, filtering, encoding, ordering, and loading ahead.

mod arena;
mod corpus;
mod counts;
mod encoder;
mod loader;
mod order;
mod pairs;
mod stream;
mod synthetic;
mod window;

pub use corpus::{TextPair, TextPairs};
pub use counts::Counts;
pub use encoder::{Encoder, Side, plain};
pub use loader::Loader;
pub use pairs::Pairs;
pub use stream::{Batch, Position, Sequences, Stream};
