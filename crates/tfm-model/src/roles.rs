//! What each parameter of a model is for, and our name of it, which follows the scopes of the
//! graph: `encoder.layers.3.self_attention.query.weight`.

use crate::config::{
    Config, FeedForward, Heads, NormKind, OutputBias, Position, PositionKind, Stack,
};
use std::fmt;
use tfm_core::Shape;

/// Our name of the source embedding table.
pub(crate) const SOURCE_EMBEDDING: &str = "source_embedding.weight";
/// Our name of the target embedding table.
pub(crate) const TARGET_EMBEDDING: &str = "target_embedding.weight";
/// Our name of the output projection.
pub(crate) const OUTPUT: &str = "output.weight";

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Role {
    SourceEmbedding,
    TargetEmbedding,
    Output(Leaf),
    /// A table of position vectors.
    Positions(Side),
    /// The norm after the embeddings.
    EmbeddingNorm(Side, Leaf),
    /// The biases by distance that all layers of a side share.
    RelativePositions(Side),
    Layer(Side, usize, Module, Leaf),
    /// The norm after the last layer.
    FinalNorm(Side, Leaf),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Encoder,
    Decoder,
}

/// A part of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Module {
    Attention(Attention, Projection),
    AttentionNorm(Attention),
    /// The layer's own biases by distance.
    RelativePositions,
    /// The projection to the inner features.
    Inner,
    /// The projection that is activated, of a gated feed-forward network.
    Gate,
    /// The projection from the inner features.
    Outer,
    FeedForwardNorm,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Attention {
    Own,
    Cross,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Projection {
    Query,
    Key,
    Value,
    Output,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Leaf {
    Weight,
    Bias,
}

impl Role {
    /// Whether it is a matrix that a linear layer or an embedding reads, which may be in 8 bits.
    pub(crate) fn is_weight(self) -> bool {
        match self {
            Role::SourceEmbedding | Role::TargetEmbedding => true,
            Role::Output(leaf)
            | Role::Layer(
                _,
                _,
                Module::Attention(..) | Module::Inner | Module::Gate | Module::Outer,
                leaf,
            ) => leaf == Leaf::Weight,
            _ => false,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Encoder => "encoder",
            Side::Decoder => "decoder",
        })
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Leaf::Weight => "weight",
            Leaf::Bias => "bias",
        })
    }
}

/// Our names.
impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attention = |attention: &Attention| match attention {
            Attention::Own => "self_attention",
            Attention::Cross => "cross_attention",
        };
        match self {
            Module::Attention(which, projection) => {
                let projection = match projection {
                    Projection::Query => "query",
                    Projection::Key => "key",
                    Projection::Value => "value",
                    Projection::Output => "output",
                };
                write!(f, "{}.{projection}", attention(which))
            }
            Module::AttentionNorm(which) => write!(f, "{}_norm", attention(which)),
            Module::RelativePositions => f.write_str("self_attention.relative_positions"),
            Module::Inner => f.write_str("feed_forward.inner"),
            Module::Gate => f.write_str("feed_forward.gate"),
            Module::Outer => f.write_str("feed_forward.outer"),
            Module::FeedForwardNorm => f.write_str("feed_forward_norm"),
        }
    }
}

/// Our names.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::SourceEmbedding => f.write_str(SOURCE_EMBEDDING),
            Role::TargetEmbedding => f.write_str(TARGET_EMBEDDING),
            Role::Output(Leaf::Weight) => f.write_str(OUTPUT),
            Role::Output(leaf) => write!(f, "output.{leaf}"),
            Role::Positions(side) => write!(f, "{side}.positions.weight"),
            Role::EmbeddingNorm(side, leaf) => write!(f, "{side}.embedding_norm.{leaf}"),
            Role::RelativePositions(side) => write!(f, "{side}.relative_positions.weight"),
            Role::Layer(side, layer, module, leaf) => {
                write!(f, "{side}.layers.{layer}.{module}.{leaf}")
            }
            Role::FinalNorm(side, leaf) => write!(f, "{side}.final_norm.{leaf}"),
        }
    }
}

/// The roles of a model's parameters and their shapes, in the order of computation, tied ones once.
pub(crate) fn roles(config: &Config) -> Vec<(Role, Shape)> {
    let (d, source, target) = (config.d_model, config.source.vocabulary, config.target.vocabulary);
    let mut roles = vec![(Role::SourceEmbedding, Shape::from([source, d]))];
    if !config.shared_embeddings {
        roles.push((Role::TargetEmbedding, Shape::from([target, d])));
    }
    for side in [Side::Encoder, Side::Decoder] {
        of_side(config, side, &mut roles);
    }
    if !config.output.tied {
        roles.push((Role::Output(Leaf::Weight), Shape::from([target, d])));
    }
    if config.output.bias != OutputBias::None {
        roles.push((Role::Output(Leaf::Bias), Shape::from([target])));
    }
    roles
}

fn of_side(config: &Config, side: Side, roles: &mut Vec<(Role, Shape)>) {
    let d = config.d_model;
    let (stack, embedding) = match side {
        Side::Encoder => (&config.encoder, &config.source),
        Side::Decoder => (&config.decoder, &config.target),
    };
    if let Some(table) = embedding.positions
        && let PositionKind::Learned { .. } = table.kind
    {
        roles.push((Role::Positions(side), Shape::from([table.rows, d])));
    }
    let norm_leaves: &[Leaf] = match stack.norm.kind {
        NormKind::Layer => &[Leaf::Weight, Leaf::Bias],
        NormKind::RootMeanSquare => &[Leaf::Weight],
    };
    let of_norm = |role: fn(Side, Leaf) -> Role| {
        norm_leaves.iter().map(move |&leaf| (role(side, leaf), Shape::from([d])))
    };
    if stack.norm.after_embedding {
        roles.extend(of_norm(Role::EmbeddingNorm));
    }
    let relative = relative_shape(stack);
    if let Some((shape, false)) = &relative {
        roles.push((Role::RelativePositions(side), shape.clone()));
    }
    for layer in 0..stack.layers {
        let mut add = |module, leaf, shape| {
            roles.push((Role::Layer(side, layer, module, leaf), shape));
        };
        let mut linear = |module, input, output, has_bias: bool| {
            add(module, Leaf::Weight, Shape::from([output, input]));
            if has_bias {
                add(module, Leaf::Bias, Shape::from([output]));
            }
        };
        let mut attention = |which, heads: Heads| {
            let (width, kv_width, biases) = (heads.width(), heads.kv_width(), heads.biases);
            linear(Module::Attention(which, Projection::Query), d, width, biases);
            for projection in [Projection::Key, Projection::Value] {
                linear(Module::Attention(which, projection), d, kv_width, biases);
            }
            linear(Module::Attention(which, Projection::Output), width, d, biases);
        };
        attention(Attention::Own, stack.attention);
        if side == Side::Decoder {
            attention(Attention::Cross, config.cross_attention);
        }
        let FeedForward { inner, gated, biases, .. } = stack.feed_forward;
        if gated {
            linear(Module::Gate, d, inner, biases);
        }
        linear(Module::Inner, d, inner, biases);
        linear(Module::Outer, inner, d, biases);
        if let Some((shape, true)) = &relative {
            add(Module::RelativePositions, Leaf::Weight, shape.clone());
        }
        let cross = (side == Side::Decoder).then_some(Module::AttentionNorm(Attention::Cross));
        let norms = [Module::AttentionNorm(Attention::Own)].into_iter().chain(cross);
        for norm in norms.chain([Module::FeedForwardNorm]) {
            norm_leaves.iter().for_each(|&leaf| add(norm, leaf, Shape::from([d])));
        }
    }
    if stack.norm.after_last_layer {
        roles.extend(of_norm(Role::FinalNorm));
    }
}

/// The shape of biases by distance, and whether each layer has its own.
fn relative_shape(stack: &Stack) -> Option<(Shape, bool)> {
    match stack.attention.position {
        Position::None => None,
        Position::Relative(relative) => {
            Some((Shape::from([relative.buckets, stack.attention.count]), relative.per_layer))
        }
    }
}
