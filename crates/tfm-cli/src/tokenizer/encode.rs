//! `tfm tokenizer encode`: the tokens of text.

use crate::failure::{Failure, Outcome};
use crate::faults::{Faults, OnError};
use crate::input::{Input, Item, Items};
use crate::options::{self, Output};
use crate::progress::Progress;
use crate::render::{called, fault_line, json_line};
use crate::sink;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};
use tfm_files::Output as Sink;
use tfm_text::Tokenizer;

/// Show the tokens of text, as the model reads them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: Input,
    /// The folder of a model or of a tokeniser; without it, the bundled English-French model
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Which of the model's languages the text is in
    #[arg(long, value_enum, default_value_t = Side::Source)]
    side: Side,
    /// Show ids instead of tokens (jsonl: both)
    #[arg(long)]
    ids: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    on_error: OnError,
    /// No notes on standard error
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Source,
    Target,
}

#[derive(Serialize)]
struct Record<'a> {
    id: Box<RawValue>,
    text: &'a str,
    tokens: Vec<String>,
    ids: Vec<u32>,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let items = arguments.input.open(arguments.quiet)?;
    let mut inputs = arguments.input.files();
    inputs.extend(arguments.model.as_deref());
    let mut sink = sink::create(&arguments.output.path, inputs)?;
    let mut faults = arguments.on_error.faults();
    let outcome = encode(arguments, items, &mut faults, &mut sink);
    sink::close(sink, outcome, &arguments.output.path)?;
    faults.finish()
}

fn encode(arguments: &Arguments, items: Items, faults: &mut Faults, sink: &mut Sink) -> Outcome {
    let tokenizer = options::tokenizer(arguments.model.as_deref())?;
    let progress = Progress::new(&[], Path::new("-"), arguments.quiet);
    for (number, item) in (1usize..).zip(items) {
        let found = match item {
            Ok(item) => match ids(&tokenizer, arguments.side, &item.text) {
                Ok(ids) => Ok((item, ids)),
                Err(error) => Err((item.id, format!("{}: {error}", item.place))),
            },
            Err(fault) if fault.is_of_a_line => Err((fault.id, fault.message)),
            Err(fault) => return Err(Failure::Work(fault.message)),
        };
        let is_json = arguments.output.format.is_json();
        let line = match found {
            Ok((item, ids)) => show(arguments, &tokenizer, number, &item, ids),
            Err((id, message)) => {
                faults.meet(message.clone(), &progress)?;
                if is_json { fault_line(id.as_deref(), number, &message) } else { "\n".into() }
            }
        };
        sink.write(&line).map_err(|error| Failure::writing(&error))?;
    }
    Ok(())
}

fn ids(tokenizer: &Tokenizer, side: Side, text: &str) -> Result<Vec<u32>, tfm_text::Error> {
    match side {
        Side::Source => tokenizer.encode_source(text),
        Side::Target => tokenizer.encode_target(text),
    }
}

fn show(
    arguments: &Arguments,
    tokenizer: &Tokenizer,
    number: usize,
    item: &Item,
    ids: Vec<u32>,
) -> String {
    let token = |&id: &u32| {
        let token = match arguments.side {
            Side::Source => tokenizer.source_token(id),
            Side::Target => tokenizer.target_token(id),
        };
        token.unwrap_or_default().into_owned()
    };
    let tokens = ids.iter().map(token).collect::<Vec<_>>();
    if arguments.output.format.is_json() {
        let id = called(item.id.as_deref(), number);
        return json_line(&Record { id, text: &item.text, tokens, ids });
    }
    let words = match arguments.ids {
        true => ids.iter().map(u32::to_string).collect(),
        false => tokens,
    };
    words.join(" ") + "\n"
}
