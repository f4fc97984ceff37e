//! `tfm tokenizer`: makes tokenisers, and shows what they do.

mod decode;
mod encode;
mod train;

use crate::failure::Outcome;
use clap::Subcommand;

/// Make tokenisers, and see what they do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Train(train::Arguments),
    Encode(encode::Arguments),
    Decode(decode::Arguments),
}

/// Does what the arguments say.
pub(crate) fn run(command: &Command) -> Outcome {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Encode(arguments) => encode::run(arguments),
        Command::Decode(arguments) => decode::run(arguments),
    }
}
