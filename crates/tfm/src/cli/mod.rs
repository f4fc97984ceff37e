//! The command: from arguments to an exit status.

mod args;
mod convert;
mod evaluate;
mod failure;
mod inspect;
mod lines;
mod output;
mod progress;
mod render;
mod score;
mod shortlist;
mod tokenizer;
mod train;
mod translate;

use args::{Arguments, Command, ModelChoice, Numbers, Search};
use clap::Parser;
use failure::{Failure, Outcome};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use tfm::{ComputeType, Device, Model, Options, Shortlist};

/// Does what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Translate(arguments) => translate::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Convert(arguments) => convert::convert(&arguments),
        Command::Average(arguments) => convert::average(&arguments),
        Command::Shortlist(arguments) => shortlist::run(&arguments),
        Command::Tokenizer(command) => tokenizer::run(&command),
    };
    outcome.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

impl ModelChoice {
    fn model(&self) -> Outcome<Model> {
        open(self.folder.as_deref())
    }

    fn device(&self, quiet: bool) -> Device {
        let device = chosen(self.device, quiet);
        self.threads.map_or(device, |threads| device.with_threads(threads))
    }
}

impl From<Numbers> for ComputeType {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::F32 => ComputeType::F32,
            Numbers::F16 => ComputeType::F16,
            Numbers::Bf16 => ComputeType::BF16,
            Numbers::Int8 => ComputeType::Int8,
        }
    }
}

/// The device that was asked for, or the best; and says which that is, where somebody asked to choose or it is not the processor.
fn chosen(asked: Option<Device>, quiet: bool) -> Device {
    let device = asked.unwrap_or_default();
    let expected = asked.is_none() && device.is_cpu();
    if let Some(choice) = device.choice().filter(|_| !quiet && !expected) {
        eprintln!("note: {choice}");
    }
    device
}

/// The model of a folder, or the bundled one.
fn open(folder: Option<&std::path::Path>) -> Outcome<Model> {
    Ok(folder.map_or_else(Model::bundled, Model::open)?)
}

impl Search {
    fn options(&self) -> Outcome<Options> {
        let shortlist = self.shortlist.as_deref().map(Shortlist::read).transpose();
        Ok(Options {
            beams: self.beam.map(NonZeroUsize::get),
            length_penalty: self.length_penalty,
            max_new_tokens: self.max_new_tokens.map(NonZeroUsize::get),
            min_new_tokens: self.min_new_tokens,
            target_language: self.target_lang.clone(),
            batch_tokens: self.batch_tokens.map(NonZeroUsize::get),
            memory: self.memory.map(|mib| mib.get().saturating_mul(1 << 20)),
            pin: self.pin,
            shortlist: shortlist.map_err(tfm::Error::from)?.map(Arc::new),
            ..Options::default()
        })
    }
}
