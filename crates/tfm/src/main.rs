//! The `tfm` command. Results go to stdout, everything else to stderr; the exit status is 0, or 1 when the
//! work failed, or 2 when it was asked for in a wrong way.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
