//! Marian NMT in the form of Hugging Face `transformers`: OPUS-MT. `MarianMTModel` and its
//! configuration.

use super::bart_fields::{self, Defaults};
use super::{Family, Template, TensorSlice};
use crate::config::{Activation, Config, OutputBias, SinusoidLayout};
use crate::generation::GenerationOptions;
use crate::json::{ConfigFiles, one_or_list};
use crate::roles::{Attention, Leaf, Module, Projection, Role};
use serde_json::{Map, Value, json};
use tfm_core::Shape;

pub(super) static MARIAN: Family = Family {
    model_type: "marian",
    architectures: &["MarianMTModel", "MarianModel"],
    template: Template {
        is_open: false,
        activation: Activation::Swish,
        sinusoids: SinusoidLayout::Halves,
        output_bias: OutputBias::Constant,
        unlearnt_padding: true,
    },
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
    base_prefix: "model.",
    read,
    write,
    slice,
};

fn read(files: &mut ConfigFiles) -> Config {
    let defaults = Defaults {
        activation: Activation::Gelu,
        scale_embedding: false,
        sinusoids: SinusoidLayout::Halves,
        start: |special| special.pad,
    };
    let mut config = bart_fields::read(files, &defaults);
    config.output.bias = OutputBias::Constant;
    // Its tables do not learn the row of the padding token, which the decoder begins with.
    config.source.unlearnt = config.special.pad;
    config.target.unlearnt = config.special.pad;
    config
}

fn write(config: &Config, generation: &GenerationOptions, object: &mut Map<String, Value>) {
    bart_fields::write(config, object);
    object.insert("architectures".into(), json!(["MarianMTModel"]));
    object.insert("static_position_embeddings".into(), json!(true));
    // Without it, its configuration says 0.
    let forced_eos = &generation.forced_eos_token_id;
    let forced_eos = if forced_eos.is_empty() { Value::Null } else { one_or_list(forced_eos) };
    object.insert("forced_eos_token_id".into(), forced_eos);
}

const SHARED: &str = "model.shared.weight";
const SOURCE: &str = "model.encoder.embed_tokens.weight";
const TARGET: &str = "model.decoder.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

fn slice(config: &Config, role: Role, shape: &Shape) -> Option<TensorSlice> {
    let one = |name: String| TensorSlice::whole(vec![name], shape);
    let slice = match role {
        Role::SourceEmbedding | Role::TargetEmbedding => table(config, role, shape),
        Role::Output(Leaf::Weight) => one(HEAD.into()),
        // A buffer [1, V], which `transformers` leaves out of some files and takes for zero.
        Role::Output(Leaf::Bias) => TensorSlice::as_row("final_logits_bias", shape).or_zero(true),
        Role::Positions(side) => one(format!("model.{side}.embed_positions.weight")),
        Role::Layer(side, layer, module, leaf) => {
            one(format!("model.{side}.layers.{layer}.{}.{leaf}", in_layer(module)?))
        }
        Role::EmbeddingNorm(..) | Role::RelativePositions(_) | Role::FinalNorm(..) => return None,
    };
    Some(slice)
}

fn in_layer(module: Module) -> Option<String> {
    let attention = |which| match which {
        Attention::Own => "self_attn",
        Attention::Cross => "encoder_attn",
    };
    let name = match module {
        Module::Attention(which, projection) => {
            let projection = match projection {
                Projection::Query => "q_proj",
                Projection::Key => "k_proj",
                Projection::Value => "v_proj",
                Projection::Output => "out_proj",
            };
            format!("{}.{projection}", attention(which))
        }
        Module::AttentionNorm(which) => format!("{}_layer_norm", attention(which)),
        Module::Inner => "fc1".into(),
        Module::Outer => "fc2".into(),
        Module::FeedForwardNorm => "final_layer_norm".into(),
        Module::RelativePositions | Module::Gate => return None,
    };
    Some(name)
}

/// The embedding tables, which go by several names where they are shared or tied.
fn table(config: &Config, role: Role, shape: &Shape) -> TensorSlice {
    let names: &[&str] = match role {
        Role::SourceEmbedding if config.shared_embeddings => &[SHARED, SOURCE, TARGET],
        Role::SourceEmbedding => &[SOURCE],
        _ => &[TARGET],
    };
    let is_target = config.shared_embeddings || role == Role::TargetEmbedding;
    let head = (config.output.tied && is_target).then_some(HEAD);
    let names: Vec<String> = names.iter().copied().chain(head).map(String::from).collect();
    // `tie_word_embeddings: false` unties all three there, and `transformers` looks for each.
    let is_untied = role == Role::SourceEmbedding && !config.output.tied;
    let written = if is_untied { names.len() } else { 1 };
    TensorSlice { written, ..TensorSlice::whole(names, shape) }
}
