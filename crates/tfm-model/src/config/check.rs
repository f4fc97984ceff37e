//! Whether a configuration makes sense.

use super::{Config, Positions, Stack};
use crate::checkpoint::Fault;

/// No published model comes near these; beyond them sizes multiply to more than any memory.
const LARGEST_D_MODEL: usize = 1 << 16;
const MOST_LAYERS: usize = 1 << 10;
const LARGEST_FFN: usize = 1 << 20;
const LARGEST_VOCABULARY: usize = 1 << 24;
const MOST_POSITIONS: usize = 1 << 20;

pub(super) const CONFIG_FILE: &str = "config.json";

pub(super) fn check(config: &Config) -> Result<(), Vec<Fault>> {
    let mut faults = Faults(Vec::new());
    faults.size("d_model", config.d_model, LARGEST_D_MODEL);
    faults.stack("encoder", config.encoder, config.d_model);
    faults.stack("decoder", config.decoder, config.d_model);
    faults.size("vocab_size", config.source_vocabulary, LARGEST_VOCABULARY);
    faults.size("max_position_embeddings", config.max_positions, MOST_POSITIONS);
    if config.shared_embeddings {
        if config.target_vocabulary != config.source_vocabulary {
            let (source, target) = (config.source_vocabulary, config.target_vocabulary);
            let problem =
                format!("is {target}, but must be vocab_size = {source} to share embeddings");
            faults.add("decoder_vocab_size", problem);
        }
    } else {
        faults.size("decoder_vocab_size", config.target_vocabulary, LARGEST_VOCABULARY);
    }
    if !(config.norm_epsilon > 0.0 && config.norm_epsilon < 1.0) {
        faults.add("norm_eps", format!("is {}, but must lie between 0 and 1", config.norm_epsilon));
    }
    // Where d_model is at fault itself, so is a scale that follows from it.
    let scale_is_sound = config.embedding_scale.is_finite() && config.embedding_scale > 0.0;
    if config.d_model > 0 && !scale_is_sound {
        faults
            .add("scale_embedding", format!("is {}, but must be above 0", config.embedding_scale));
    }
    if let Positions::Learned { offset } = config.positions
        && offset > MOST_POSITIONS
    {
        faults.add("position_offset", format!("is {offset}, but {MOST_POSITIONS} is the most"));
    }
    faults.special_tokens(config);
    if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: &str, problem: String) {
        self.0.push(Fault::Field { file: CONFIG_FILE.into(), field: field.into(), problem });
    }

    fn size(&mut self, field: &str, size: usize, largest: usize) {
        if !(1..=largest).contains(&size) {
            self.add(field, format!("is {size}, but must lie between 1 and {largest}"));
        }
    }

    fn stack(&mut self, stack: &str, shape: Stack, d_model: usize) {
        self.size(&format!("{stack}_layers"), shape.layers, MOST_LAYERS);
        self.size(&format!("{stack}_ffn_dim"), shape.ffn_dim, LARGEST_FFN);
        let heads = shape.heads;
        // Where d_model is at fault itself, nothing can be said of the heads.
        let divides =
            heads > 0 && (d_model == 0 || heads <= d_model && d_model.is_multiple_of(heads));
        if !divides {
            let problem = format!("is {heads}, but must divide d_model = {d_model}");
            self.add(&format!("{stack}_attention_heads"), problem);
        }
    }

    fn special_tokens(&mut self, config: &Config) {
        let (source, target) = (config.source_vocabulary, config.target_vocabulary);
        let special = &config.special;
        if special.eos.is_empty() {
            self.add("eos_token_id", "is missing: nothing would end a sentence".into());
        }
        for &eos in &special.eos {
            self.token("eos_token_id", eos, target);
        }
        self.token("decoder_start_token_id", special.decoder_start, target);
        special.bos.inspect(|&bos| self.token("bos_token_id", bos, source.max(target)));
        special.pad.inspect(|&pad| self.token("pad_token_id", pad, source.max(target)));
    }

    fn token(&mut self, field: &str, token: u32, vocabulary: usize) {
        if vocabulary > 0 && token as usize >= vocabulary {
            self.add(
                field,
                format!("is {token}, but the vocabulary has {vocabulary} tokens, from 0 on"),
            );
        }
    }
}
