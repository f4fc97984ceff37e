//! The paper's Transformer with the names of a module that holds a `torch.nn.Transformer` as
//! `transformer`, an `embedding` and a `generator`. The `config.json` is this project's own, in the
//! words of BART's where it has them.

use super::bart_fields::{self, Defaults};
use super::{Family, Template, TensorSlice};
use crate::config::{
    Activation, Config, NormPlacement, OutputBias, PositionKind, PositionTable, SinusoidLayout,
    Stack,
};
use crate::generation::GenerationOptions;
use crate::json::ConfigFiles;
use crate::roles::{Attention, Leaf, Module, Projection, Role, Side};
use serde_json::{Map, Value, json};
use tfm_core::Shape;

pub(super) static TRANSFORMER: Family = Family {
    model_type: "transformer",
    architectures: &[],
    template: Some(Template {
        is_open: true,
        activation: Activation::Relu,
        sinusoids: SinusoidLayout::Interleaved,
        output_bias: OutputBias::None,
        unlearnt_padding: false,
    }),
    only: &[("is_encoder_decoder", true)],
    base_prefix: "",
    read,
    write,
    slice,
};

/// `positions` as `config.json` writes it. A learned table's offset stands beside it.
const POSITIONS: [(&str, PositionKind); 3] = [
    ("sinusoidal_interleaved", PositionKind::Sinusoidal(SinusoidLayout::Interleaved)),
    ("sinusoidal_halves", PositionKind::Sinusoidal(SinusoidLayout::Halves)),
    ("learned", PositionKind::Learned { offset: 0 }),
];

fn read(files: &mut ConfigFiles) -> Config {
    let defaults = Defaults {
        activation: Activation::Relu,
        scale_embedding: true,
        positions: PositionKind::Sinusoidal(SinusoidLayout::Interleaved),
        output_bias: OutputBias::Learnt,
        unlearnt_padding: false,
        ..Defaults::POST_NORM
    };
    let mut config = bart_fields::read(files, &defaults);
    let fields = &mut files.config;
    let is_pre = fields.flag("norm_first").unwrap_or(false);
    // `torch.nn.Transformer` ends each stack with a norm, wherever the others stand.
    let after_last_layer = fields.flag("final_norm").unwrap_or(true);
    let epsilon = fields.number("norm_eps");
    let offset = fields.count("position_offset").unwrap_or(0);
    let positions = fields.choice("positions", &POSITIONS).map(|kind| match kind {
        PositionKind::Learned { .. } => PositionKind::Learned { offset },
        sinusoidal => sinusoidal,
    });
    let biases = fields.flag("bias").unwrap_or(true);
    for stack in [&mut config.encoder, &mut config.decoder] {
        stack.norm.placement = if is_pre { NormPlacement::Pre } else { NormPlacement::Post };
        stack.norm.after_last_layer = after_last_layer;
        stack.norm.epsilon = epsilon.unwrap_or(stack.norm.epsilon);
        stack.attention.biases = biases;
        stack.feed_forward.biases = biases;
    }
    config.cross_attention.biases = biases;
    for embedding in [&mut config.source, &mut config.target] {
        if let (Some(table), Some(kind)) = (&mut embedding.positions, positions) {
            table.kind = kind;
        }
    }
    // The paper's tied projection has none (section 3.4); `torch.nn.Linear` has one.
    let output_bias = fields.flag("output_bias").unwrap_or(!config.output.tied);
    config.output.bias = if output_bias { OutputBias::Learnt } else { OutputBias::None };
    config
}

fn write(config: &Config, _: &GenerationOptions, object: &mut Map<String, Value>) {
    bart_fields::write(config, object);
    let Stack { attention, norm, .. } = &config.encoder;
    let kind = config.source.positions.map(|table| table.kind);
    let (kind, offset) = match kind {
        Some(PositionKind::Learned { offset }) => {
            (Some(PositionKind::Learned { offset: 0 }), Some(offset))
        }
        sinusoidal => (sinusoidal, None),
    };
    let positions = POSITIONS.iter().find(|(_, known)| Some(*known) == kind);
    let fields = [
        ("norm_first", json!(norm.placement == NormPlacement::Pre)),
        ("final_norm", json!(norm.after_last_layer)),
        ("norm_eps", json!(norm.epsilon)),
        ("positions", json!(positions.map(|(name, _)| name))),
        ("bias", json!(attention.biases)),
        ("output_bias", json!(config.output.bias != OutputBias::None)),
    ];
    object.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    if let Some(offset) = offset {
        object.insert("position_offset".into(), json!(offset));
    }
}

fn slice(config: &Config, role: Role, shape: &Shape) -> Option<TensorSlice> {
    let whole = |name: &str| TensorSlice::whole(vec![name.into()], shape);
    let slice = match role {
        Role::SourceEmbedding if config.shared_embeddings => {
            table(config.output.tied, "embedding.weight", shape)
        }
        Role::SourceEmbedding => whole("source_embedding.weight"),
        Role::TargetEmbedding => table(config.output.tied, "target_embedding.weight", shape),
        Role::Output(leaf) => whole(&format!("generator.{leaf}")),
        Role::Positions(side) => {
            let embedding = if side == Side::Encoder { &config.source } else { &config.target };
            let offset = match embedding.positions {
                Some(PositionTable { kind: PositionKind::Learned { offset }, .. }) => offset,
                _ => 0,
            };
            TensorSlice::after(offset, format!("{side}_positions.weight"), shape)
        }
        Role::FinalNorm(side, leaf) => {
            whole(&format!("transformer.{side}.norm.{leaf}")).or_zero(lacks_bias(config, leaf))
        }
        Role::Layer(side, layer, module, leaf) => {
            let layer = format!("transformer.{side}.layers.{layer}");
            return in_layer(config, side, &layer, (module, leaf), shape);
        }
        Role::EmbeddingNorm(..) | Role::RelativePositions(_) => return None,
    };
    Some(slice)
}

/// A table that is the output's weight as well where that is tied.
fn table(is_tied: bool, name: &str, shape: &Shape) -> TensorSlice {
    let head = is_tied.then_some("generator.weight");
    TensorSlice::whole([name].into_iter().chain(head).map(String::from).collect(), shape)
}

/// `bias=False` takes the biases of norms away too.
fn lacks_bias(config: &Config, leaf: Leaf) -> bool {
    leaf == Leaf::Bias && !config.encoder.attention.biases
}

fn in_layer(
    config: &Config,
    side: Side,
    layer: &str,
    (module, leaf): (Module, Leaf),
    shape: &Shape,
) -> Option<TensorSlice> {
    let attention = |which| match which {
        Attention::Own => "self_attn",
        Attention::Cross => "multihead_attn",
    };
    let whole = |module: &str| TensorSlice::whole(vec![format!("{layer}.{module}.{leaf}")], shape);
    let norm = |number: usize| whole(&format!("norm{number}")).or_zero(lacks_bias(config, leaf));
    let slice = match module {
        Module::Attention(which, Projection::Output) => {
            whole(&format!("{}.out_proj", attention(which)))
        }
        Module::Attention(which, projection) => {
            let name = format!("{layer}.{}.in_proj_{leaf}", attention(which));
            TensorSlice::block(name, shape, projection as usize, 3)
        }
        Module::Inner => whole("linear1"),
        Module::Outer => whole("linear2"),
        Module::AttentionNorm(Attention::Own) => norm(1),
        Module::AttentionNorm(Attention::Cross) => norm(2),
        Module::FeedForwardNorm => norm(if side == Side::Encoder { 2 } else { 3 }),
        Module::RelativePositions | Module::Gate => return None,
    };
    Some(slice)
}
