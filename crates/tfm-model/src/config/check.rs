//! Whether a configuration makes sense.

use super::parts::MOST_POSITIONS;
use super::{Config, Embedding, Heads, Position, PositionKind, Stack};
use crate::fault::Fault;
use crate::json::CONFIG;

/// No published model comes near these; beyond them sizes multiply to more than any memory.
const LARGEST_D_MODEL: usize = 1 << 16;
const MOST_LAYERS: usize = 1 << 10;
const LARGEST_FFN: usize = 1 << 20;
const LARGEST_VOCABULARY: usize = 1 << 24;
const MOST_BUCKETS: usize = 1 << 10;
const MOST_DISTANCE: usize = 1 << 16;

pub(super) fn check(config: &Config) -> Result<(), Vec<Fault>> {
    let mut faults = Faults(Vec::new());
    let (source, target) = (&config.source, &config.target);
    faults.size("d_model", config.d_model, LARGEST_D_MODEL);
    faults.stack("encoder", &config.encoder, true);
    faults.stack("decoder", &config.decoder, false);
    faults.cross_attention(config.cross_attention);
    faults.size("vocab_size", source.vocabulary, LARGEST_VOCABULARY);
    if config.shared_embeddings {
        let (source, target) = (source.vocabulary, target.vocabulary);
        if target != source {
            let problem =
                format!("is {target}, but must be vocab_size = {source} to share embeddings");
            faults.add("decoder_vocab_size", problem);
        }
    } else {
        faults.size("decoder_vocab_size", target.vocabulary, LARGEST_VOCABULARY);
    }
    // Where d_model is at fault itself, so is a scale that follows from it.
    if config.d_model > 0 {
        faults.embedding(source);
        if target != source {
            faults.embedding(target);
        }
        let scale = config.output.scale;
        if !is_factor(scale) {
            faults.add("scale_decoder_outputs", format!("gives {scale}, but must be above 0"));
        }
    } else {
        faults.positions(source);
    }
    faults.special_tokens(config);
    if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
}

fn is_factor(scale: f64) -> bool {
    scale.is_finite() && scale > 0.0
}

struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault. What parts have in common is said once.
    fn add(&mut self, field: &str, problem: String) {
        let fault = Fault::Field { file: CONFIG.into(), field: field.into(), problem };
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    fn size(&mut self, field: &str, size: usize, largest: usize) {
        if !(1..=largest).contains(&size) {
            self.add(field, format!("is {size}, but must lie between 1 and {largest}"));
        }
    }

    fn stack(&mut self, name: &str, stack: &Stack, bidirectional: bool) {
        self.size(&format!("{name}_layers"), stack.layers, MOST_LAYERS);
        self.size(&format!("{name}_ffn_dim"), stack.feed_forward.inner, LARGEST_FFN);
        self.heads(name, stack.attention);
        self.position(stack.attention.position, bidirectional);
        let epsilon = stack.norm.epsilon;
        if !(epsilon > 0.0 && epsilon < 1.0) {
            self.add("norm_eps", format!("is {epsilon}, but must lie between 0 and 1"));
        }
    }

    fn position(&mut self, position: Position, bidirectional: bool) {
        if let Position::Relative(relative) = position {
            // The decoder has keys before the query alone.
            let directions = if bidirectional { 2 } else { 1 };
            let (least, buckets) = (2 * directions, relative.buckets);
            if !(least..=MOST_BUCKETS).contains(&buckets) {
                let problem =
                    format!("is {buckets}, but must lie between {least} and {MOST_BUCKETS}");
                self.add("relative_attention_num_buckets", problem);
            }
            let (least, distance) = (buckets / directions / 2 + 1, relative.max_distance);
            if !(least..=MOST_DISTANCE).contains(&distance) {
                let problem =
                    format!("is {distance}, but must lie between {least} and {MOST_DISTANCE}");
                self.add("relative_attention_max_distance", problem);
            }
        }
    }

    fn heads(&mut self, stack: &str, heads: Heads) {
        let Heads { count, kv_count, size, scale, window, soft_cap, .. } = heads;
        let field = format!("{stack}_attention_heads");
        self.size(&field, count, LARGEST_D_MODEL);
        if count > 0 && (kv_count == 0 || !count.is_multiple_of(kv_count)) {
            let problem =
                format!("is {kv_count}, but must divide the {count} heads of the {stack}");
            self.add("num_key_value_heads", problem);
        }
        if window == Some(0) {
            self.add("sliding_window", "is 0, but must hold the query's own position".into());
        }
        if let Some(cap) = soft_cap.filter(|&cap| !is_factor(cap)) {
            let problem = format!("is {cap}, but must be above 0");
            self.add("attn_logit_softcapping", problem);
        }
        // A size of 0 follows from a fault of d_model or of the number of heads, where a file has
        // no size.
        if count > 0 && size > 0 && count.checked_mul(size).is_none_or(|all| all > LARGEST_FFN) {
            let problem = format!("is {count}, which is too many for {size} features each");
            self.add(&field, problem);
        }
        if size > 0 && !is_factor(scale) {
            self.add(&field, format!("scale scores by {scale}, but must by more than 0"));
        }
    }

    /// The decoder's heads that attend to the encoder's output. Nothing is near or far there: what
    /// stands in the target has no distance from what stands in the source.
    fn cross_attention(&mut self, heads: Heads) {
        self.heads("decoder", heads);
        if heads.window.is_some() || heads.position != Position::None {
            self.add("cross_attention", "has distances, but source and target have none".into());
        }
    }

    fn embedding(&mut self, embedding: &Embedding) {
        self.positions(embedding);
        if !is_factor(embedding.scale) {
            let problem = format!("gives {}, but must be above 0", embedding.scale);
            self.add("scale_embedding", problem);
        }
    }

    fn positions(&mut self, embedding: &Embedding) {
        let Some(table) = embedding.positions else { return };
        self.size("max_position_embeddings", table.rows, MOST_POSITIONS);
        if let PositionKind::Learned { offset } = table.kind
            && offset > MOST_POSITIONS
        {
            self.add("position_offset", format!("is {offset}, but {MOST_POSITIONS} is the most"));
        }
    }

    fn special_tokens(&mut self, config: &Config) {
        let (source, target) = (config.source.vocabulary, config.target.vocabulary);
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
