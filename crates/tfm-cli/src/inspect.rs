//! `tfm inspect`: describes a model.

mod json;
mod summary;

use crate::failure::{Failure, Outcome};
use crate::options::{self, positive};
use crate::sink;
use clap::{Args, ValueEnum};
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tfm::Model;
use tfm_core::Graph;
use tfm_model::Numerics;
use tfm_model::transformer::{DecoderKeys, Network, Sequences};

/// Describe a model: configuration, vocabulary, parameters, graphs.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model's folder; without it, the bundled model
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// List every parameter with its shape, type and size
    #[arg(long)]
    parameters: bool,
    /// Print one JSON object with everything
    #[arg(long, conflicts_with_all = ["parameters", "graph"])]
    json: bool,
    /// Print the computation graph, for sentences of --length tokens
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "parameters")]
    graph: Option<Part>,
    /// Tokens of the sentences that the graph is for
    #[arg(long, value_name = "N", default_value = "8", value_parser = positive, requires = "graph")]
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
        None if arguments.json => json::page(&model),
        None if arguments.parameters => parameters(&model),
        None => summary::page(&model),
    };
    let mut sink = sink::create(Path::new("-"), arguments.model.as_deref())?;
    sink.write(&page).map_err(|error| Failure::writing(&error))
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
