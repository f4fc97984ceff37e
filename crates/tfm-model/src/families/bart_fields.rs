//! The fields of `config.json` that BART and its relatives have in common, read and written.

use crate::config::{
    Activation, Config, Embedding, FeedForward, Heads, Norm, NormKind, NormPlacement, Output,
    OutputBias, PositionKind, PositionTable, SinusoidLayout, SpecialTokens, Stack,
};
use crate::generation::GenerationOptions;
use crate::json::{ConfigFiles, Fields, one_or_list};
use serde_json::{Map, Value, json};

/// `activation_function` as files write it. "gelu_new" and its like are the tanh approximation.
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("swish", Activation::Swish),
    ("silu", Activation::Swish),
    ("tanh", Activation::Tanh),
];

/// The epsilon of `torch.nn.LayerNorm` unless told otherwise.
const TORCH_EPSILON: f64 = 1e-5;

/// What is so where `config.json` does not say otherwise, or cannot.
pub(super) struct Defaults {
    pub(super) activation: Activation,
    pub(super) scale_embedding: bool,
    pub(super) positions: PositionKind,
    pub(super) norm: Norm,
    pub(super) output_bias: OutputBias,
    /// Whether training leaves the padding token's row of the embeddings as it is.
    pub(super) unlearnt_padding: bool,
    /// The special token that the decoder starts with.
    pub(super) start: fn(&SpecialTokens) -> Option<u32>,
}

impl Defaults {
    /// Those of `transformers`, on the paper's norms.
    pub(super) const POST_NORM: Defaults = Defaults {
        activation: Activation::Gelu,
        scale_embedding: false,
        positions: PositionKind::Sinusoidal(SinusoidLayout::Halves),
        norm: Norm {
            kind: NormKind::Layer,
            epsilon: TORCH_EPSILON,
            placement: NormPlacement::Post,
            after_embedding: false,
            after_last_layer: false,
        },
        // A buffer beside the weights.
        output_bias: OutputBias::Constant,
        unlearnt_padding: true,
        start: |special| special.bos,
    };

    /// The same with a norm before each sublayer and one after the last layer.
    pub(super) const PRE_NORM: Defaults = Defaults {
        norm: Norm {
            placement: NormPlacement::Pre,
            after_last_layer: true,
            ..Self::POST_NORM.norm
        },
        ..Self::POST_NORM
    };

    /// A table of learned positions whose first rows stand for nothing.
    pub(super) const fn learned(offset: usize) -> PositionKind {
        PositionKind::Learned { offset }
    }
}

/// The model of these fields: a Transformer as the paper has it, with biases everywhere.
pub(super) fn read(files: &mut ConfigFiles, defaults: &Defaults) -> Config {
    let special = special_tokens(files, defaults.start);
    let fields = &mut files.config;
    let d_model = fields.required_count("d_model");
    let source = fields.required_count("vocab_size");
    let shared_embeddings = fields.flag("share_encoder_decoder_embeddings").unwrap_or(true);
    // `transformers` writes the decoder's size also where the table is shared, and then goes by the
    // source's.
    let target = fields.count("decoder_vocab_size").filter(|_| !shared_embeddings);
    let scales = fields.flag("scale_embedding").unwrap_or(defaults.scale_embedding);
    let encoder = stack(fields, "encoder", d_model);
    let decoder = stack(fields, "decoder", d_model);
    let rows = fields.required_count("max_position_embeddings");
    let embedding = |vocabulary| Embedding {
        vocabulary,
        scale: if scales { (d_model as f64).sqrt() } else { 1.0 },
        positions: Some(PositionTable { rows, kind: defaults.positions }),
        unlearnt: special.pad.filter(|_| defaults.unlearnt_padding),
    };
    let activation = fields.choice("activation_function", &ACTIVATIONS);
    let activation = activation.unwrap_or(defaults.activation);
    let activated = |stack: Stack| Stack {
        feed_forward: FeedForward { activation, ..stack.feed_forward },
        norm: defaults.norm,
        ..stack
    };
    Config {
        d_model,
        encoder: activated(encoder),
        decoder: activated(decoder),
        cross_attention: decoder.attention,
        source: embedding(source),
        target: embedding(target.unwrap_or(source)),
        shared_embeddings,
        output: Output {
            tied: fields.flag("tie_word_embeddings").unwrap_or(true),
            bias: defaults.output_bias,
            scale: 1.0,
        },
        special,
    }
}

fn stack(fields: &mut Fields, name: &str, d_model: usize) -> Stack {
    Stack {
        layers: fields.required_count(&format!("{name}_layers")),
        attention: heads(fields, &format!("{name}_attention_heads"), d_model),
        feed_forward: FeedForward {
            inner: fields.required_count(&format!("{name}_ffn_dim")),
            activation: Activation::Relu,
            gated: false,
            biases: true,
        },
        norm: Defaults::POST_NORM.norm,
    }
}

/// Heads that share `d_model` evenly.
fn heads(fields: &mut Fields, field: &str, d_model: usize) -> Heads {
    let faults = fields.faults.len();
    let count = fields.required_count(field);
    let is_read = fields.faults.len() == faults;
    // Where d_model is at fault itself, nothing can be said of the heads.
    if is_read && d_model > 0 && (count == 0 || !d_model.is_multiple_of(count)) {
        fields.fault(field, format!("is {count}, but must divide d_model = {d_model}"));
    }
    let size = d_model.checked_div(count).unwrap_or(0);
    Heads::new(count, size)
}

/// The tokens with a role, of any family that names them as `transformers` does.
pub(super) fn special_tokens(
    files: &mut ConfigFiles,
    default_start: fn(&SpecialTokens) -> Option<u32>,
) -> SpecialTokens {
    let mut special = SpecialTokens {
        bos: files.token("bos_token_id"),
        pad: files.token("pad_token_id"),
        eos: files.tokens("eos_token_id").unwrap_or_default(),
        decoder_start: 0,
    };
    match files.token("decoder_start_token_id").or(default_start(&special)) {
        Some(start) => special.decoder_start = start,
        None => files
            .config
            .fault("decoder_start_token_id", "is missing: the decoder must start with some token"),
    }
    special
}

/// Writes the fields.
pub(super) fn write(config: &Config, object: &mut Map<String, Value>) {
    let activation = config.encoder.feed_forward.activation;
    let activation = ACTIVATIONS.iter().find(|(_, known)| *known == activation);
    let fields = [
        ("is_encoder_decoder", json!(true)),
        ("d_model", json!(config.d_model)),
        ("vocab_size", json!(config.source.vocabulary)),
        ("decoder_vocab_size", json!(config.target.vocabulary)),
        ("max_position_embeddings", json!(config.source.longest_sequence())),
        ("scale_embedding", json!(config.source.scale != 1.0)),
        ("activation_function", json!(activation.map(|(name, _)| name))),
        ("share_encoder_decoder_embeddings", json!(config.shared_embeddings)),
        ("tie_word_embeddings", json!(config.output.tied)),
    ];
    object.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    for (name, stack) in [("encoder", &config.encoder), ("decoder", &config.decoder)] {
        object.insert(format!("{name}_layers"), json!(stack.layers));
        object.insert(format!("{name}_attention_heads"), json!(stack.attention.count));
        object.insert(format!("{name}_ffn_dim"), json!(stack.feed_forward.inner));
    }
}

/// Writes the end that is forced at the limit. Without it, the configurations of BART and its
/// relatives say one of their own.
pub(super) fn write_forced_eos(generation: &GenerationOptions, object: &mut Map<String, Value>) {
    let forced = &generation.forced_eos_token_id;
    let forced = if forced.is_empty() { Value::Null } else { one_or_list(forced) };
    object.insert("forced_eos_token_id".into(), forced);
}
