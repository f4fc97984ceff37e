//! Blenderbot (Roller et al. 2021): norms before the sublayers and after the last layer, learned
//! positions from the table's first row on.

use super::bart_fields::{self, Defaults};
use super::{Family, bart_names};
use crate::config::Config;
use crate::generation::GenerationOptions;
use crate::json::ConfigFiles;
use serde_json::{Map, Value, json};

pub(super) static BLENDERBOT: Family = Family {
    model_type: "blenderbot",
    architectures: &["BlenderbotForConditionalGeneration", "BlenderbotModel"],
    template: None,
    only: &[
        ("normalize_before", true),
        ("normalize_embedding", false),
        ("add_final_layer_norm", true),
        ("static_position_embeddings", false),
        ("is_encoder_decoder", true),
        ("is_decoder", false),
        ("tie_encoder_decoder", false),
    ],
    base_prefix: bart_names::BASE_PREFIX,
    read,
    write,
    slice: bart_names::slice,
};

const DEFAULTS: Defaults = Defaults { positions: Defaults::learned(0), ..Defaults::PRE_NORM };

fn read(files: &mut ConfigFiles) -> Config {
    bart_fields::read(files, &DEFAULTS)
}

fn write(config: &Config, generation: &GenerationOptions, object: &mut Map<String, Value>) {
    bart_fields::write(config, object);
    bart_fields::write_forced_eos(generation, object);
    object.insert("architectures".into(), json!(["BlenderbotForConditionalGeneration"]));
}
