//! Marian NMT in the form of Hugging Face `transformers`: OPUS-MT. `MarianMTModel` and its
//! configuration.

use super::bart_fields::{self, Defaults};
use super::{Family, Template, bart_names};
use crate::config::{Activation, Config, OutputBias, SinusoidLayout};
use crate::generation::GenerationOptions;
use crate::json::ConfigFiles;
use serde_json::{Map, Value, json};

pub(super) static MARIAN: Family = Family {
    model_type: "marian",
    architectures: &["MarianMTModel", "MarianModel"],
    template: Some(Template {
        is_open: false,
        activation: Activation::Swish,
        sinusoids: SinusoidLayout::Halves,
        output_bias: OutputBias::Constant,
        unlearnt_padding: true,
    }),
    // `transformers` obeyed the first four while it ran Marian's models by BART's code, and
    // converts none with other values.
    only: &[
        ("normalize_before", false),
        ("normalize_embedding", false),
        ("add_final_layer_norm", false),
        ("static_position_embeddings", true),
        ("is_encoder_decoder", true),
        ("is_decoder", false),
        ("tie_encoder_decoder", false),
    ],
    base_prefix: bart_names::BASE_PREFIX,
    read,
    write,
    slice: bart_names::slice,
};

fn read(files: &mut ConfigFiles) -> Config {
    // Its tables do not learn the row of the padding token, which the decoder begins with.
    bart_fields::read(files, &Defaults { start: |special| special.pad, ..Defaults::POST_NORM })
}

fn write(config: &Config, generation: &GenerationOptions, object: &mut Map<String, Value>) {
    bart_fields::write(config, object);
    bart_fields::write_forced_eos(generation, object);
    object.insert("architectures".into(), json!(["MarianMTModel"]));
    object.insert("static_position_embeddings".into(), json!(true));
}
