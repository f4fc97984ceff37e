//! mBART-25 and mBART-50 (Liu et al. 2020, Tang et al. 2020): BART with norms before the sublayers
//! and after the last layer. Languages are tokens.

use super::bart_fields::{self, Defaults};
use super::{Family, bart_names};
use crate::config::{Config, Norm};
use crate::generation::GenerationOptions;
use crate::json::ConfigFiles;
use serde_json::{Map, Value, json};

pub(super) static MBART: Family = Family {
    model_type: "mbart",
    architectures: &["MBartForConditionalGeneration", "MBartModel"],
    template: None,
    only: &[
        ("normalize_before", true),
        ("normalize_embedding", true),
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

const DEFAULTS: Defaults = Defaults {
    positions: Defaults::learned(2),
    norm: Norm { after_embedding: true, ..Defaults::PRE_NORM.norm },
    ..Defaults::PRE_NORM
};

fn read(files: &mut ConfigFiles) -> Config {
    bart_fields::read(files, &DEFAULTS)
}

fn write(config: &Config, generation: &GenerationOptions, object: &mut Map<String, Value>) {
    bart_fields::write(config, object);
    bart_fields::write_forced_eos(generation, object);
    object.insert("architectures".into(), json!(["MBartForConditionalGeneration"]));
}
