//! `tfm completions`: what a shell needs to complete the command.

use crate::failure::{Failure, Outcome};
use crate::sink;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use std::path::Path;

/// Print a script that lets a shell complete the command's arguments.
///
/// bash reads it as ~/.local/share/bash-completion/completions/tfm, fish as
/// ~/.config/fish/completions/tfm.fish, zsh as _tfm in a folder of its fpath.
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
    let mut sink = sink::create(Path::new("-"), [])?;
    sink.write(&String::from_utf8_lossy(&script)).map_err(|error| Failure::writing(&error))
}
