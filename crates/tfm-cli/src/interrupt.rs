//! Ctrl-C and the request to end: nothing half-written is left behind, and what is done is named.

use std::io::{self, Write};
use std::process;

/// The status of a command that was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// Listens for Ctrl-C, for the request to end that batch systems send, and for a terminal that is
/// closed. Where the system does not allow it, the command just ends.
pub(crate) fn listen() {
    let _ = ctrlc::set_handler(|| {
        for kept in tfm_files::interrupt() {
            // If standard error is closed, there is nowhere to report it.
            let _ = writeln!(io::stderr(), "\nstopped; what was done is in {}", kept.display());
        }
        process::exit(INTERRUPTED);
    });
}
