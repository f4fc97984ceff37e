//! The `tfm` command, from its arguments to its exit status: 0, or 1 when the work failed, or 2
//! when it was used in a wrong way. Results go to standard output, everything else to standard
//! error.

mod average;
mod convert;
mod evaluate;
mod failure;
mod inspect;
mod lines;
mod options;
mod output;
mod progress;
mod render;
mod score;
mod shortlist;
mod tokenizer;
mod train;
mod translate;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Translates and scores text with encoder-decoder Transformers.
#[derive(Debug, Parser)]
#[command(name = "tfm", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Translate(translate::Arguments),
    Score(score::Arguments),
    Evaluate(evaluate::Arguments),
    Inspect(inspect::Arguments),
    Train(train::Arguments),
    Convert(convert::Arguments),
    Average(average::Arguments),
    Shortlist(shortlist::Arguments),
    #[command(subcommand)]
    Tokenizer(tokenizer::Command),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Translate(arguments) => translate::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Average(arguments) => average::run(&arguments),
        Command::Shortlist(arguments) => shortlist::run(&arguments),
        Command::Tokenizer(command) => tokenizer::run(&command),
    };
    outcome.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
