//! The engine for encoder-decoder Transformers: the library and the tfm command.
