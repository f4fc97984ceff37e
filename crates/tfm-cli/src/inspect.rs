//! `tfm inspect`: describes a model.

use crate::failure::{Failure, Outcome};
use crate::options;
use crate::output::Sink;
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tfm::Model;
use tfm_core::Graph;
use tfm_model::config::{
    Heads, Norm, NormKind, NormPlacement, Position, PositionKind, PositionTable, SinusoidLayout,
    Stack,
};
use tfm_model::transformer::{DecoderKeys, Network, Sequences};
use tfm_model::{Config, Numerics};

/// Describe a model: configuration, vocabulary, parameters, graphs.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model's folder; without it, the bundled model
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// List every parameter with its shape, type and size
    #[arg(long)]
    parameters: bool,
    /// Print the computation graph, for sentences of --length tokens
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "parameters")]
    graph: Option<Part>,
    /// Tokens of the sentences that the graph is for
    #[arg(long, value_name = "N", default_value = "8", requires = "graph")]
    length: NonZeroUsize,
    /// Print the graph in Graphviz's DOT language
    #[arg(long, requires = "graph")]
    dot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Encoder,
    Decoder,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let model = options::open(arguments.model.as_deref())?;
    let page = match arguments.graph {
        Some(part) => {
            let graph = graph(&model, part, arguments.length.get())?;
            if arguments.dot { graph.to_dot() } else { graph.to_string() }
        }
        None if arguments.parameters => parameters(&model),
        None => summary(&model),
    };
    let mut sink = Sink::open(Path::new("-"))?;
    sink.write(&page).map_err(|error| Failure::writing(&error))
}

/// The summary of a model.
fn summary(model: &Model) -> String {
    let (config, own, tokenizer) = (model.config(), model.generation(), model.tokenizer());
    let mut page = format!("{}\n", model.name());
    let mut row = |name: &str, value: String| {
        let _ = writeln!(page, "  {name:<18}{value}");
    };
    row("family", model.checkpoint().description().family.model_type().into());
    row("d_model", config.d_model.to_string());
    row("encoder", stack(&config.encoder));
    row("decoder", stack(&config.decoder));
    row("norm", norm(&config.encoder.norm));
    row("activation", format!("{:?}", config.encoder.feed_forward.activation));
    row("positions", positions(config));
    row("embedding scale", config.source.scale.to_string());
    let tied = [
        (config.shared_embeddings, "source and target embeddings"),
        (config.output.tied, "target embeddings and output"),
    ];
    let tied: Vec<&str> = tied.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    row("tied", if tied.is_empty() { "nothing".into() } else { tied.join("; ") });
    row(
        "source vocabulary",
        format!(
            "{} ({} in the tokeniser)",
            config.source.vocabulary,
            tokenizer.source_vocab_size()
        ),
    );
    row(
        "target vocabulary",
        format!(
            "{} ({} in the tokeniser)",
            config.target.vocabulary,
            tokenizer.target_vocab_size()
        ),
    );
    let special = &config.special;
    let (start, eos) = (special.decoder_start, &special.eos);
    row("special tokens", format!("decoder start {start}, end {eos:?}, padding {:?}", special.pad));
    let languages: Vec<&str> = model.languages().collect();
    if !languages.is_empty() {
        row("target languages", languages.join(" "));
    }
    let most = own.max_new_tokens.or(own.max_length);
    let most = most.map_or("the model's positions".to_owned(), |most| most.to_string());
    row(
        "generation",
        format!("beams {}, length penalty {}, length {most}", own.num_beams, own.length_penalty),
    );
    let (count, stored) = stored(model);
    let stored: Vec<String> = stored.iter().map(|(kind, n)| format!("{n} in {kind}")).collect();
    row("parameters", format!("{count} ({})", stored.join(", ")));
    for note in model.checkpoint().notes() {
        row("note", note.clone());
    }
    page
}

fn stack(stack: &Stack) -> String {
    let Stack { layers, attention, feed_forward, .. } = stack;
    let (heads, inner) = (self::heads(attention), feed_forward.inner);
    let gated = if feed_forward.gated { "gated " } else { "" };
    format!("{layers} layers, {heads}, {gated}feed-forward {inner}")
}

fn heads(heads: &Heads) -> String {
    let Heads { count, kv_count, size, window, soft_cap, .. } = heads;
    let mut text = format!("{count} heads of {size}");
    if kv_count < count {
        text += &format!(" ({kv_count} of keys)");
    }
    if let Some(window) = window {
        text += &format!(", window {window}");
    }
    if let Some(cap) = soft_cap {
        text += &format!(", scores capped at {cap}");
    }
    text
}

fn norm(norm: &Norm) -> String {
    let kind = match norm.kind {
        NormKind::Layer => "layer norm",
        NormKind::RootMeanSquare => "root mean square",
        _ => "another norm",
    };
    let place = match norm.placement {
        NormPlacement::Post => "after each residual sum",
        NormPlacement::Pre => "before each sublayer",
    };
    let first = if norm.after_embedding { ", one after the embeddings" } else { "" };
    let last = if norm.after_last_layer { ", one after the last layer" } else { "" };
    format!("{kind} {place}{first}{last}, epsilon {:e}", norm.epsilon)
}

fn positions(config: &Config) -> String {
    let table = match config.source.positions {
        None => "no table".to_owned(),
        Some(PositionTable { rows, kind }) => {
            let kind = match kind {
                PositionKind::Sinusoidal(SinusoidLayout::Interleaved) => "sinusoids, interleaved",
                PositionKind::Sinusoidal(SinusoidLayout::Halves) => "sinusoids, sines first",
                PositionKind::Learned { .. } => "learned",
                _ => "of another kind",
            };
            format!("{kind}, {rows} at most")
        }
    };
    match config.encoder.attention.position {
        Position::None => table,
        Position::Relative(relative) => {
            format!("{table}, biases by distance in {} buckets", relative.buckets)
        }
        _ => format!("{table}, distances of another kind"),
    }
}

/// How many numbers the parameters have: in all, and by the type in which the files store them.
fn stored(model: &Model) -> (usize, BTreeMap<String, usize>) {
    let mut by_type = BTreeMap::new();
    for parameter in model.checkpoint().parameters() {
        let kind = parameter.stored.map_or("no file".to_owned(), |(_, kind)| format!("{kind:?}"));
        *by_type.entry(kind).or_default() += parameter.shape.elements();
    }
    (by_type.values().sum(), by_type)
}

/// The table of parameters.
fn parameters(model: &Model) -> String {
    let mut page = String::from("parameter\tshape\telements\tstored as\tin\n");
    for parameter in model.checkpoint().parameters() {
        let (tensor, kind) = match parameter.stored {
            Some((tensor, kind)) => (tensor, format!("{kind:?}")),
            None => ("none: it is zero", String::new()),
        };
        let (name, shape) = (parameter.name, parameter.shape);
        let _ = writeln!(page, "{name}\t{shape}\t{}\t{kind}\t{tensor}", shape.elements());
    }
    page
}

/// The graph for one sentence of `length` tokens and, for the decoder, a translation of that
/// length.
fn graph(model: &Model, part: Part, length: usize) -> Outcome<Graph> {
    let config = model.config();
    let most = match part {
        Part::Encoder => config.source.longest_sequence(),
        Part::Decoder => config.target.longest_sequence(),
    };
    if length > most {
        let problem = format!("--length is {length}, but the model has {most} positions");
        return Err(Failure::Usage(problem));
    }
    let mut net = Network::new(config, Numerics::default());
    let positions = net.graph.indices("positions", most, [length]);
    let sentence = Sequences::input(&mut net.graph, "sentence", 1, length, length);
    let output = match part {
        Part::Encoder => {
            let tokens = net.graph.indices("tokens", config.source.vocabulary, [length]);
            net.encoder(tokens, positions, sentence)
        }
        Part::Decoder => {
            let tokens = net.graph.indices("tokens", config.target.vocabulary, [length]);
            let memory = net.graph.input("memory", net.numerics.dtype, [length, config.d_model]);
            let cross = Sequences::input(&mut net.graph, "cross", 1, length, length);
            net.decoder(tokens, positions, DecoderKeys::Whole { targets: sentence, memory, cross })
        }
    };
    net.graph.output(output);
    net.graph.check().map_err(|error| Failure::Work(error.to_string()))?;
    Ok(net.graph)
}
