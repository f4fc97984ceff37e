//! Writing `config.json` and `generation_config.json`.

use super::generation::one_or_list;
use super::read::{ACTIVATIONS, POSITIONS};
use super::{Config, Family, NormPlacement, Positions, Stack};
use crate::generation::GenerationOptions;
use serde_json::{Map, Value, json};
use std::mem::discriminant;

pub(super) fn write(config: &Config, generation: &GenerationOptions) -> [String; 2] {
    let mut object = Map::new();
    object.insert("model_type".into(), json!(config.family.model_type()));
    common(config, &mut object);
    special(config, &mut object);
    match config.family {
        Family::Marian => marian(generation, &mut object),
        Family::Transformer => transformer(config, &mut object),
    }
    let mut settings = Map::new();
    special(config, &mut settings);
    generation.write(&mut settings);
    [object, settings].map(|object| format!("{:#}\n", Value::Object(object)))
}

fn common(config: &Config, object: &mut Map<String, Value>) {
    let activation = ACTIVATIONS.iter().find(|(_, activation)| *activation == config.activation);
    let fields = [
        ("is_encoder_decoder", json!(true)),
        ("d_model", json!(config.d_model)),
        ("vocab_size", json!(config.source_vocabulary)),
        ("decoder_vocab_size", json!(config.target_vocabulary)),
        ("max_position_embeddings", json!(config.max_positions)),
        ("scale_embedding", json!(config.embedding_scale != 1.0)),
        ("activation_function", json!(activation.map(|(name, _)| name))),
        ("share_encoder_decoder_embeddings", json!(config.shared_embeddings)),
        ("tie_word_embeddings", json!(config.tied_output)),
    ];
    object.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    for (name, Stack { layers, heads, ffn_dim }) in
        [("encoder", config.encoder), ("decoder", config.decoder)]
    {
        object.insert(format!("{name}_layers"), json!(layers));
        object.insert(format!("{name}_attention_heads"), json!(heads));
        object.insert(format!("{name}_ffn_dim"), json!(ffn_dim));
    }
}

fn special(config: &Config, object: &mut Map<String, Value>) {
    let special = &config.special;
    object.insert("bos_token_id".into(), json!(special.bos));
    object.insert("eos_token_id".into(), one_or_list(&special.eos));
    object.insert("pad_token_id".into(), json!(special.pad));
    object.insert("decoder_start_token_id".into(), json!(special.decoder_start));
}

/// What `transformers` expects beside the common fields.
fn marian(generation: &GenerationOptions, object: &mut Map<String, Value>) {
    object.insert("architectures".into(), json!(["MarianMTModel"]));
    object.insert("static_position_embeddings".into(), json!(true));
    // Without it, its configuration says 0.
    let forced_eos = &generation.forced_eos_token_id;
    let forced_eos = if forced_eos.is_empty() { Value::Null } else { one_or_list(forced_eos) };
    object.insert("forced_eos_token_id".into(), forced_eos);
}

fn transformer(config: &Config, object: &mut Map<String, Value>) {
    let kind = |positions: &Positions| match positions {
        Positions::Sinusoidal(layout) => Some(*layout),
        Positions::Learned { .. } => None,
    };
    let same = |positions: &Positions| {
        discriminant(positions) == discriminant(&config.positions)
            && kind(positions) == kind(&config.positions)
    };
    let positions = POSITIONS.iter().find(|(_, positions)| same(positions));
    let fields = [
        ("norm_first", json!(config.norm_placement == NormPlacement::Pre)),
        ("final_norm", json!(config.final_norm)),
        ("norm_eps", json!(config.norm_epsilon)),
        ("positions", json!(positions.map(|(name, _)| name))),
        ("bias", json!(config.linear_biases)),
        ("output_bias", json!(config.output_bias)),
    ];
    object.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    if let Positions::Learned { offset } = config.positions {
        object.insert("position_offset".into(), json!(offset));
    }
}
