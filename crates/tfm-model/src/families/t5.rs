//! T5 (Raffel et al. 2020) with its relatives: v1.1, FLAN-T5, ByT5 and MADLAD-400 are "t5", mT5 and
//! Aya-101 are "mt5", UMT5 is "umt5". Root mean square norms before the sublayers, no biases,
//! distances in buckets instead of tables of positions.

use super::bart_fields::special_tokens;
use super::{Family, t5_names};
use crate::config::{
    Activation, Config, Embedding, FeedForward, Heads, Norm, NormKind, NormPlacement, Output,
    OutputBias, Position, RelativePositions, Stack,
};
use crate::generation::GenerationOptions;
use crate::json::{ConfigFiles, Fields};
use serde_json::{Map, Value, json};

pub(super) static T5: Family =
    family("t5", &["T5ForConditionalGeneration", "T5Model"], t5, write_t5);
pub(super) static MT5: Family =
    family("mt5", &["MT5ForConditionalGeneration", "MT5Model"], mt5, write_mt5);
pub(super) static UMT5: Family =
    family("umt5", &["UMT5ForConditionalGeneration", "UMT5Model"], umt5, write_umt5);

const fn family(
    model_type: &'static str,
    architectures: &'static [&'static str],
    read: fn(&mut ConfigFiles) -> Config,
    write: fn(&Config, &GenerationOptions, &mut Map<String, Value>),
) -> Family {
    Family {
        model_type,
        architectures,
        template: None,
        only: &[
            ("is_encoder_decoder", true),
            ("is_decoder", false),
            ("tie_encoder_decoder", false),
        ],
        base_prefix: "",
        read,
        write,
        slice: t5_names::slice,
    }
}

/// `feed_forward_proj` as files write it: the activation, and whether it gates. `gelu` gated is the
/// tanh approximation, and alone it is not.
const FEED_FORWARDS: [(&str, (Activation, bool)); 7] = [
    ("relu", (Activation::Relu, false)),
    ("gelu", (Activation::Gelu, false)),
    ("gelu_new", (Activation::GeluTanh, false)),
    ("gated-gelu", (Activation::GeluTanh, true)),
    ("gated-relu", (Activation::Relu, true)),
    ("gated-silu", (Activation::Swish, true)),
    ("silu", (Activation::Swish, false)),
];

/// Tied outputs are scaled, unless the file says otherwise.
fn t5(files: &mut ConfigFiles) -> Config {
    let tied = files.config.flag("tie_word_embeddings").unwrap_or(true);
    let scaled = files.config.flag("scale_decoder_outputs").unwrap_or(tied);
    read(files, tied, scaled, false)
}

/// The output is a matrix of its own, and never scaled.
fn mt5(files: &mut ConfigFiles) -> Config {
    let tied = files.config.flag("tie_word_embeddings").unwrap_or(false);
    read(files, tied, false, false)
}

/// Each layer has distances of its own, and the output is always scaled.
fn umt5(files: &mut ConfigFiles) -> Config {
    let tied = files.config.flag("tie_word_embeddings").unwrap_or(true);
    read(files, tied, true, true)
}

fn read(files: &mut ConfigFiles, tied: bool, scaled: bool, per_layer: bool) -> Config {
    let special = special_tokens(files, |special| special.pad);
    let fields = &mut files.config;
    let d_model = fields.required_count("d_model");
    let vocabulary = fields.required_count("vocab_size");
    let layers = fields.required_count("num_layers");
    let decoder_layers = fields.count("num_decoder_layers").unwrap_or(layers);
    let heads = Heads { scale: 1.0, biases: false, ..heads(fields) };
    let (activation, gated) =
        fields.choice("feed_forward_proj", &FEED_FORWARDS).unwrap_or((Activation::Relu, false));
    let position = Position::Relative(RelativePositions {
        buckets: fields.count("relative_attention_num_buckets").unwrap_or(32),
        max_distance: fields.count("relative_attention_max_distance").unwrap_or(128),
        per_layer,
    });
    let stack = |layers| Stack {
        layers,
        attention: Heads { position, ..heads },
        feed_forward: FeedForward { inner: 0, activation, gated, biases: false },
        norm: Norm {
            kind: NormKind::RootMeanSquare,
            epsilon: 1e-6,
            placement: NormPlacement::Pre,
            after_embedding: false,
            after_last_layer: true,
        },
    };
    let (mut encoder, mut decoder) = (stack(layers), stack(decoder_layers));
    let (inner, epsilon) = (fields.required_count("d_ff"), fields.number("layer_norm_epsilon"));
    for stack in [&mut encoder, &mut decoder] {
        stack.feed_forward.inner = inner;
        stack.norm.epsilon = epsilon.unwrap_or(stack.norm.epsilon);
    }
    let embedding = Embedding { vocabulary, scale: 1.0, positions: None, unlearnt: None };
    Config {
        d_model,
        encoder,
        decoder,
        cross_attention: heads,
        source: embedding,
        target: embedding,
        shared_embeddings: true,
        output: Output {
            tied,
            bias: OutputBias::None,
            scale: if scaled { 1.0 / (d_model as f64).sqrt() } else { 1.0 },
        },
        special,
    }
}

/// Heads whose features together may be others than the model's.
fn heads(fields: &mut Fields) -> Heads {
    Heads::new(fields.required_count("num_heads"), fields.required_count("d_kv"))
}

fn write_t5(config: &Config, _: &GenerationOptions, object: &mut Map<String, Value>) {
    write(config, "T5ForConditionalGeneration", object);
    object.insert("scale_decoder_outputs".into(), json!(config.output.scale != 1.0));
}

fn write_mt5(config: &Config, _: &GenerationOptions, object: &mut Map<String, Value>) {
    write(config, "MT5ForConditionalGeneration", object);
}

fn write_umt5(config: &Config, _: &GenerationOptions, object: &mut Map<String, Value>) {
    write(config, "UMT5ForConditionalGeneration", object);
}

fn write(config: &Config, architecture: &str, object: &mut Map<String, Value>) {
    let Stack { attention, feed_forward, norm, .. } = &config.encoder;
    let feed_forward_kind = (feed_forward.activation, feed_forward.gated);
    let name = FEED_FORWARDS.iter().find(|(_, kind)| *kind == feed_forward_kind);
    let fields = [
        ("architectures", json!([architecture])),
        ("is_encoder_decoder", json!(true)),
        ("d_model", json!(config.d_model)),
        ("d_kv", json!(attention.size)),
        ("d_ff", json!(feed_forward.inner)),
        ("num_heads", json!(attention.count)),
        ("num_layers", json!(config.encoder.layers)),
        ("num_decoder_layers", json!(config.decoder.layers)),
        ("vocab_size", json!(config.source.vocabulary)),
        ("feed_forward_proj", json!(name.map(|(name, _)| name))),
        ("layer_norm_epsilon", json!(norm.epsilon)),
        ("tie_word_embeddings", json!(config.output.tied)),
    ];
    object.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    if let Position::Relative(relative) = attention.position {
        object.insert("relative_attention_num_buckets".into(), json!(relative.buckets));
        object.insert("relative_attention_max_distance".into(), json!(relative.max_distance));
    }
}
