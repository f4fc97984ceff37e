//! The options that a model's makers recommend.

use super::SearchOptions;
use crate::config::{Config, GenerationDefaults};

impl SearchOptions {
    /// What `generate` of `transformers` does with a model's settings when it is given no others. Without a
    /// length there, the model's positions are the limit, which no length exceeds.
    pub fn from_generation(generation: &GenerationDefaults, config: &Config) -> Self {
        let mut options = SearchOptions::new(
            config.special.decoder_start,
            config.special.eos.clone(),
            config.max_positions,
        );
        // Lengths of `transformers` count the decoder's start token, numbers of new tokens do not.
        let most = generation
            .max_new_tokens
            .or(generation.max_length.map(|length| length.saturating_sub(1)));
        options.max_length = most.unwrap_or(usize::MAX).clamp(1, config.max_positions);
        let least = generation.min_new_tokens.unwrap_or(generation.min_length.saturating_sub(1));
        options.min_length = least.min(options.max_length);
        options.beams = generation.num_beams;
        options.length_penalty = generation.length_penalty;
        options.early_stopping = generation.early_stopping;
        options.banned = generation.bad_words.clone();
        options.forced_bos = generation.forced_bos;
        options.forced_eos = generation.forced_eos.clone();
        options.no_repeat_ngram = generation.no_repeat_ngram;
        options.repetition_penalty = generation.repetition_penalty as f32;
        options.renormalize = generation.renormalize_logits;
        options
    }
}
