//! The names of parameters: ours, and those that files of each family use.
//!
//! Ours follow the scopes of the graph: `encoder.layers.3.self_attention.query.weight`. Three have aliases:
//! a shared or tied table goes by several of `source_embedding.weight`, `target_embedding.weight` and
//! `output.weight`, and [`canonical`] picks one.

use crate::config::{Config, Family, Positions};
use std::fmt;
use std::ops::Range;
use tfm_core::Shape;

/// Our name of the source embedding table.
pub(crate) const SOURCE_EMBEDDING: &str = "source_embedding.weight";
/// Our name of the target embedding table.
pub(crate) const TARGET_EMBEDDING: &str = "target_embedding.weight";
/// Our name of the output projection.
pub(crate) const OUTPUT: &str = "output.weight";

/// The name under which a parameter is stored once: the one it is tied to, or its own.
pub fn canonical<'a>(config: &Config, name: &'a str) -> &'a str {
    match name {
        OUTPUT if config.tied_output => canonical(config, TARGET_EMBEDDING),
        TARGET_EMBEDDING if config.shared_embeddings => SOURCE_EMBEDDING,
        own => own,
    }
}

/// The parameters that training can learn, by their canonical names, with their shapes, in the order of
/// computation. Position tables that are computed are not among them, nor the bias of Marian's logits, which
/// is a constant of its checkpoints.
pub fn learnable(config: &Config) -> Vec<(String, Shape)> {
    let is_constant = |name: &str| config.family == Family::Marian && name == "output.bias";
    let all = parameters(config).into_iter().map(|parameter| (parameter.name, parameter.shape));
    all.filter(|(name, _)| !is_constant(name)).collect()
}

/// A parameter of a model, and where files keep it.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    /// Our name.
    pub(crate) name: String,
    /// Its shape.
    pub(crate) shape: Shape,
    /// Its place in files.
    pub(crate) stored: Stored,
    /// Whether it is a matrix that a linear layer or an embedding reads, which may be in 8 bits.
    pub(crate) is_weight: bool,
}

/// The place of a parameter in files of a family.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// The names of the tensor. Tied tensors have several; any will do.
    pub(crate) names: Vec<String>,
    /// How many of the names are written, each with a tensor of its own. One, but where a family's readers
    /// don't tie what the model has tied.
    pub(crate) written: usize,
    /// The shape of the tensor.
    pub(crate) shape: Shape,
    /// The rows of the tensor that are this parameter. A single row of several is without its first axis.
    pub(crate) rows: Range<usize>,
    /// Whether files may leave it out, and it is zero then.
    pub(crate) optional: bool,
}

/// All parameters of a model, in the order of computation, tied ones once.
pub(crate) fn parameters(config: &Config) -> Vec<Parameter> {
    places(config)
        .into_iter()
        .map(|(place, shape)| {
            let stored = match config.family {
                Family::Marian => marian::stored(config, place, &shape),
                Family::Transformer => torch::stored(config, place, &shape),
            };
            Parameter { name: place.to_string(), shape, stored, is_weight: place.is_weight() }
        })
        .collect()
}

/// Tensors in files that nothing reads: what they hold is computed.
pub(crate) fn is_position_table(config: &Config, name: &str) -> bool {
    config.family == Family::Marian && marian::POSITION_TABLES.contains(&name)
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    SourceEmbedding,
    TargetEmbedding,
    Output(Leaf),
    Positions(Side),
    FinalNorm(Side, Leaf),
    Layer(Side, usize, Module, Leaf),
}

impl Place {
    fn is_weight(self) -> bool {
        match self {
            Place::SourceEmbedding | Place::TargetEmbedding => true,
            Place::Output(leaf)
            | Place::Layer(_, _, Module::Attention(..) | Module::Inner | Module::Outer, leaf) => {
                leaf == Leaf::Weight
            }
            Place::Positions(_) | Place::FinalNorm(..) | Place::Layer(..) => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Encoder,
    Decoder,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Module {
    Attention(Attention, Projection),
    AttentionNorm(Attention),
    Inner,
    Outer,
    FeedForwardNorm,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Attention {
    Own,
    Cross,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Projection {
    Query,
    Key,
    Value,
    Output,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaf {
    Weight,
    Bias,
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
            Module::Inner => f.write_str("feed_forward.inner"),
            Module::Outer => f.write_str("feed_forward.outer"),
            Module::FeedForwardNorm => f.write_str("feed_forward_norm"),
        }
    }
}

/// Our names.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::SourceEmbedding => f.write_str(SOURCE_EMBEDDING),
            Place::TargetEmbedding => f.write_str(TARGET_EMBEDDING),
            Place::Output(Leaf::Weight) => f.write_str(OUTPUT),
            Place::Output(leaf) => write!(f, "output.{leaf}"),
            Place::Positions(side) => write!(f, "{side}.positions.weight"),
            Place::FinalNorm(side, leaf) => write!(f, "{side}.final_norm.{leaf}"),
            Place::Layer(side, layer, module, leaf) => {
                write!(f, "{side}.layers.{layer}.{module}.{leaf}")
            }
        }
    }
}

fn places(config: &Config) -> Vec<(Place, Shape)> {
    let d = config.d_model;
    let mut places = vec![(Place::SourceEmbedding, Shape::from([config.source_vocabulary, d]))];
    if !config.shared_embeddings {
        places.push((Place::TargetEmbedding, Shape::from([config.target_vocabulary, d])));
    }
    for (side, stack) in [(Side::Encoder, config.encoder), (Side::Decoder, config.decoder)] {
        if let Positions::Learned { .. } = config.positions {
            places.push((Place::Positions(side), Shape::from([config.max_positions, d])));
        }
        for layer in 0..stack.layers {
            let mut add =
                |module, leaf, shape| places.push((Place::Layer(side, layer, module, leaf), shape));
            let mut linear = |module, input, output| {
                add(module, Leaf::Weight, Shape::from([output, input]));
                if config.linear_biases {
                    add(module, Leaf::Bias, Shape::from([output]));
                }
            };
            let attentions: &[_] = match side {
                Side::Encoder => &[Attention::Own],
                Side::Decoder => &[Attention::Own, Attention::Cross],
            };
            for &which in attentions {
                for projection in
                    [Projection::Query, Projection::Key, Projection::Value, Projection::Output]
                {
                    linear(Module::Attention(which, projection), d, d);
                }
            }
            linear(Module::Inner, d, stack.ffn_dim);
            linear(Module::Outer, stack.ffn_dim, d);
            let attention_norms = attentions.iter().map(|&which| Module::AttentionNorm(which));
            for norm in attention_norms.chain([Module::FeedForwardNorm]) {
                add(norm, Leaf::Weight, Shape::from([d]));
                add(norm, Leaf::Bias, Shape::from([d]));
            }
        }
        if config.final_norm {
            places.push((Place::FinalNorm(side, Leaf::Weight), Shape::from([d])));
            places.push((Place::FinalNorm(side, Leaf::Bias), Shape::from([d])));
        }
    }
    if !config.tied_output {
        places.push((Place::Output(Leaf::Weight), Shape::from([config.target_vocabulary, d])));
    }
    if config.output_bias {
        places.push((Place::Output(Leaf::Bias), Shape::from([config.target_vocabulary])));
    }
    places
}

impl Stored {
    /// A tensor that is the parameter as a whole.
    fn whole(names: Vec<String>, shape: &Shape) -> Self {
        let rows = 0..shape.first().copied().unwrap_or(1);
        Stored { names, written: 1, shape: shape.clone(), rows, optional: false }
    }

    /// The part `number` of `count` equal parts that lie one upon another.
    fn block(name: String, shape: &Shape, number: usize, count: usize) -> Self {
        let rows = shape.first().copied().unwrap_or(1);
        let whole = shape.with_extent(0, count * rows);
        Stored {
            names: vec![name],
            written: 1,
            shape: whole,
            rows: number * rows..(number + 1) * rows,
            optional: false,
        }
    }

    /// The same, but zero where files leave it out.
    fn or_zero(self, optional: bool) -> Self {
        Stored { optional, ..self }
    }
}

/// The names of `MarianMTModel` in Hugging Face `transformers`.
mod marian {
    use super::*;

    const SHARED: &str = "model.shared.weight";
    const SOURCE: &str = "model.encoder.embed_tokens.weight";
    const TARGET: &str = "model.decoder.embed_tokens.weight";
    const HEAD: &str = "lm_head.weight";

    pub(super) const POSITION_TABLES: [&str; 2] =
        ["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"];

    pub(super) fn stored(config: &Config, place: Place, shape: &Shape) -> Stored {
        let Place::Layer(side, layer, module, leaf) = place else {
            return outside_layers(config, place, shape);
        };
        let module = match module {
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
        };
        Stored::whole(vec![format!("model.{side}.layers.{layer}.{module}.{leaf}")], shape)
    }

    fn attention(which: Attention) -> &'static str {
        match which {
            Attention::Own => "self_attn",
            Attention::Cross => "encoder_attn",
        }
    }

    fn outside_layers(config: &Config, place: Place, shape: &Shape) -> Stored {
        let tables = |names: &[&str]| {
            let head = config.tied_output.then_some(HEAD);
            names.iter().copied().chain(head).map(String::from).collect()
        };
        let names = match place {
            Place::SourceEmbedding if config.shared_embeddings => tables(&[SHARED, SOURCE, TARGET]),
            Place::SourceEmbedding => vec![SOURCE.into()],
            Place::TargetEmbedding => tables(&[TARGET]),
            Place::Output(Leaf::Weight) => vec![HEAD.into()],
            // A buffer [1, V], which `transformers` leaves out of some files and takes for zero.
            Place::Output(Leaf::Bias) => {
                let bias = Stored::block("final_logits_bias".into(), shape, 0, 1);
                return Stored { shape: Shape::from([1, shape.elements()]), rows: 0..1, ..bias }
                    .or_zero(true);
            }
            Place::FinalNorm(side, leaf) => vec![format!("model.{side}.layer_norm.{leaf}")],
            Place::Positions(side) => vec![format!("model.{side}.embed_positions.weight")],
            Place::Layer(..) => unreachable!("layers are named by `stored`"),
        };
        // `tie_word_embeddings: false` unties all three there, and `transformers` looks for each.
        let is_untied_table = place == Place::SourceEmbedding && !config.tied_output;
        let written = if is_untied_table { names.len() } else { 1 };
        Stored { written, ..Stored::whole(names, shape) }
    }
}

/// The names of a module that holds a `torch.nn.Transformer` as `transformer`, an `embedding` and a
/// `generator`.
mod torch {
    use super::*;

    pub(super) fn stored(config: &Config, place: Place, shape: &Shape) -> Stored {
        let names = match place {
            Place::SourceEmbedding if config.shared_embeddings => {
                let head = config.tied_output.then_some("generator.weight");
                ["embedding.weight"].into_iter().chain(head).map(String::from).collect()
            }
            Place::SourceEmbedding => vec!["source_embedding.weight".into()],
            Place::TargetEmbedding => {
                let head = config.tied_output.then_some("generator.weight");
                ["target_embedding.weight"].into_iter().chain(head).map(String::from).collect()
            }
            Place::Output(leaf) => vec![format!("generator.{leaf}")],
            Place::Positions(side) => {
                let Positions::Learned { offset } = config.positions else {
                    unreachable!("places() asked")
                };
                let table = shape.with_extent(0, offset + config.max_positions);
                let name = format!("{side}_positions.weight");
                return Stored {
                    rows: offset..offset + config.max_positions,
                    ..Stored::whole(vec![name], &table)
                };
            }
            Place::FinalNorm(side, leaf) => {
                let stored = Stored::whole(vec![format!("transformer.{side}.norm.{leaf}")], shape);
                return stored.or_zero(lacks_bias(config, leaf));
            }
            Place::Layer(side, layer, module, leaf) => {
                let layer = format!("transformer.{side}.layers.{layer}");
                return in_layer(config, side, &layer, module, leaf, shape);
            }
        };
        Stored::whole(names, shape)
    }

    /// `bias=False` takes the biases of norms away too.
    fn lacks_bias(config: &Config, leaf: Leaf) -> bool {
        leaf == Leaf::Bias && !config.linear_biases
    }

    fn in_layer(
        config: &Config,
        side: Side,
        layer: &str,
        module: Module,
        leaf: Leaf,
        shape: &Shape,
    ) -> Stored {
        let attention = |which| match which {
            Attention::Own => "self_attn",
            Attention::Cross => "multihead_attn",
        };
        let whole = |module: &str| Stored::whole(vec![format!("{layer}.{module}.{leaf}")], shape);
        let norm =
            |number: usize| whole(&format!("norm{number}")).or_zero(lacks_bias(config, leaf));
        match module {
            Module::Attention(which, Projection::Output) => {
                whole(&format!("{}.out_proj", attention(which)))
            }
            Module::Attention(which, projection) => {
                let name = format!("{layer}.{}.in_proj_{leaf}", attention(which));
                Stored::block(name, shape, projection as usize, 3)
            }
            Module::Inner => whole("linear1"),
            Module::Outer => whole("linear2"),
            Module::AttentionNorm(Attention::Own) => norm(1),
            Module::AttentionNorm(Attention::Cross) => norm(2),
            Module::FeedForwardNorm => norm(if side == Side::Encoder { 2 } else { 3 }),
        }
    }
}
