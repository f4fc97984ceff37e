//! PLBart (Ahmad et al. 2021): BART for programs, with scaled embeddings.

use super::bart_fields::{self, Defaults};
use super::{Family, bart_names};
use crate::config::{Config, Norm};
use crate::generation::GenerationOptions;
use crate::json::ConfigFiles;
use serde_json::{Map, Value, json};

pub(super) static PLBART: Family = Family {
    model_type: "plbart",
    architectures: &["PLBartForConditionalGeneration", "PLBartModel"],
    template: None,
    only: &[("is_encoder_decoder", true), ("is_decoder", false), ("tie_encoder_decoder", false)],
    base_prefix: bart_names::BASE_PREFIX,
    read,
    write,
    slice: bart_names::slice,
};

const DEFAULTS: Defaults = Defaults {
    positions: Defaults::learned(2),
    norm: Norm { after_embedding: true, ..Defaults::POST_NORM.norm },
    scale_embedding: true,
    ..Defaults::POST_NORM
};

fn read(files: &mut ConfigFiles) -> Config {
    bart_fields::read(files, &DEFAULTS)
}

fn write(config: &Config, generation: &GenerationOptions, object: &mut Map<String, Value>) {
    bart_fields::write(config, object);
    bart_fields::write_forced_eos(generation, object);
    object.insert("architectures".into(), json!(["PLBartForConditionalGeneration"]));
}
