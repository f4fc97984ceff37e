//! `tfm tokenizer decode`: the text of tokens.

use crate::failure::{Failure, Outcome};
use crate::input::Input;
use crate::options;
use crate::sink;
use clap::Args;
use std::path::PathBuf;

/// Show the text of tokens of the target language: each line of ids, between spaces, is a text.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: Input,
    /// The folder of a model or of a tokeniser; without it, the bundled English-French model
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Write the texts to this file; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// No notes on standard error
    #[arg(short, long)]
    quiet: bool,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let items = arguments.input.open(arguments.quiet)?;
    let mut inputs = arguments.input.files();
    inputs.extend(arguments.model.as_deref());
    let mut sink = sink::create(&arguments.output, inputs)?;
    let tokenizer = options::tokenizer(arguments.model.as_deref())?;
    let most = tokenizer.target_vocab_size();
    let mut outcome = Ok(());
    for item in items {
        let decoded = item.map_err(|fault| Failure::Work(fault.message)).and_then(|item| {
            let fault = |problem: String| Failure::Work(format!("{}: {problem}", item.place));
            let id = |word: &str| match word.parse::<u32>() {
                Ok(id) if (id as usize) < most => Ok(id),
                Ok(id) => Err(fault(format!("there is no token {id}; the last is {}", most - 1))),
                Err(_) => Err(fault(format!("`{word}` is no id of a token, which is a number"))),
            };
            let ids = item.text.split_whitespace().map(id).collect::<Outcome<Vec<u32>>>()?;
            tokenizer.decode_target(&ids).map_err(|error| fault(error.to_string()))
        });
        outcome = decoded.and_then(|text| {
            sink.write(&(text.replace(['\n', '\r'], " ") + "\n"))
                .map_err(|error| Failure::writing(&error))
        });
        if outcome.is_err() {
            break;
        }
    }
    sink::close(sink, outcome, &arguments.output)
}
