//! Results that come while others are still being computed: of many lines in their order, and of
//! one sentence token by token.

mod ordered;
mod pieces;
mod translations;
mod window;

pub use pieces::{Piece, TranslationStream};
pub use translations::Translations;
