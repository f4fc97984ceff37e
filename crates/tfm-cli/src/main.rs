//! The `tfm` command, from its arguments to its exit status: 0, or 1 when the work failed, or 2
//! when it was used in a wrong way, or 3 when lines at fault were skipped. Results go to standard
//! output, everything else to standard error.

mod arguments;
mod average;
mod completions;
mod convert;
mod evaluate;
mod failure;
mod faults;
mod heatmap;
mod input;
mod inspect;
mod interrupt;
mod man;
mod options;
mod pairs;
mod progress;
mod render;
mod score;
mod shortlist;
mod sink;
mod standard_streams;
mod tokenizer;
mod train;
mod translate;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Translates and scores text with encoder-decoder Transformers.
#[derive(Debug, Parser)]
#[command(name = "tfm", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Status: 0 done, 1 failed, 2 wrong usage, 3 done but for lines at fault, 130 interrupted."
)]
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
    Completions(completions::Arguments),
    Man(man::Arguments),
}

fn main() -> ExitCode {
    let command = Arguments::parse_from(arguments::read()).command;
    if !matches!(command, Command::Train(_)) {
        interrupt::listen();
    }
    let outcome = match command {
        Command::Translate(arguments) => translate::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Average(arguments) => average::run(&arguments),
        Command::Shortlist(arguments) => shortlist::run(&arguments),
        Command::Tokenizer(command) => tokenizer::run(&command),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    };
    outcome.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
