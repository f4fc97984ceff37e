//! `tfm man`: manual pages.

use crate::failure::{Failure, Outcome};
use clap::{Args, Command, CommandFactory};
use std::fs;
use std::path::{Path, PathBuf};

/// Write manual pages, one for each command.
///
/// `man` finds them in ~/.local/share/man/man1.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder to write; it is created if it is absent
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let folder = &arguments.folder;
    if folder.exists() && !folder.is_dir() {
        return Err(Failure::Work(format!("{} is not a folder: name one", folder.display())));
    }
    fs::create_dir_all(folder)
        .map_err(|error| Failure::Work(format!("cannot make {}: {error}", folder.display())))?;
    let mut command = crate::Arguments::command().disable_help_subcommand(true);
    command.build();
    write(&command, folder)
}

/// Writes the page of a command and those of its own commands.
fn write(command: &Command, folder: &Path) -> Outcome {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut page)
        .map_err(|error| Failure::Work(format!("cannot make the page of {name}: {error}")))?;
    tfm_files::write_whole(&folder.join(format!("{name}.1")), &page)?;
    command.get_subcommands().try_for_each(|command| write(command, folder))
}
