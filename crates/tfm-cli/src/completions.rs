//! `tfm completions`: what a shell needs to complete the command.

use crate::failure::{Failure, Outcome};
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use std::path::Path;
use tfm_files::Output as Sink;

/// Print a script that lets a shell complete the command's arguments.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    generate(arguments.shell, &mut crate::Arguments::command(), "tfm", &mut script);
    let mut sink = Sink::create(Path::new("-"), [])?;
    sink.write(&String::from_utf8_lossy(&script)).map_err(|error| Failure::writing(&error))
}
