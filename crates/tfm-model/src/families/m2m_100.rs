//! M2M-100 (Fan et al. 2021), NLLB-200 and SMaLL-100: norms before the sublayers and after the last
//! layer; sinusoids as fairseq lays them out, of which the first positions are left to the padding
//! token. Languages are tokens.

use super::bart_fields::{self, Defaults};
use super::{Family, bart_names};
use crate::config::{Activation, Config, OutputBias, PositionKind, SinusoidLayout};
use crate::generation::GenerationOptions;
use crate::json::ConfigFiles;
use serde_json::{Map, Value, json};

pub(super) static M2M_100: Family = Family {
    model_type: "m2m_100",
    architectures: &["M2M100ForConditionalGeneration", "M2M100Model"],
    template: None,
    only: &[("is_encoder_decoder", true), ("is_decoder", false), ("tie_encoder_decoder", false)],
    base_prefix: bart_names::BASE_PREFIX,
    read,
    write,
    slice: bart_names::slice,
};

const DEFAULTS: Defaults = Defaults {
    activation: Activation::Relu,
    scale_embedding: true,
    output_bias: OutputBias::None,
    ..Defaults::PRE_NORM
};

fn read(files: &mut ConfigFiles) -> Config {
    let mut config = bart_fields::read(files, &DEFAULTS);
    // The padding token's row of the table is all zeros, and the rows before it are not used.
    let first = config.special.pad.map_or(0, |pad| pad as usize + 1);
    for embedding in [&mut config.source, &mut config.target] {
        if let Some(table) = &mut embedding.positions {
            table.kind = PositionKind::Sinusoidal(SinusoidLayout::Fairseq { first });
        }
    }
    config
}

fn write(config: &Config, generation: &GenerationOptions, object: &mut Map<String, Value>) {
    bart_fields::write(config, object);
    bart_fields::write_forced_eos(generation, object);
    object.insert("architectures".into(), json!(["M2M100ForConditionalGeneration"]));
}
