//! Ctrl-C and the request to end: nothing half-written is left behind, and what is done is named.

use std::io::{self, Write};
use std::process;

/// The status of a command that was interrupted, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Listens for Ctrl-C, for the request to end that batch systems send, and for a terminal that is
/// closed. Where the system does not allow it, the command just ends.
pub(crate) fn listen() {
    let _ = on_request(|| {
        for kept in tfm_files::interrupt() {
            // If standard error is closed, there is nowhere to report it.
            let _ = writeln!(io::stderr(), "\nstopped; what was done is in {}", kept.display());
        }
        process::exit(INTERRUPTED.into());
    });
}

/// Calls `stop` when the process is asked to end. Requests that the parent has it ignore, as
/// `nohup` does, stay ignored.
///
/// # Errors
/// The system's.
pub(crate) fn on_request(stop: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    #[cfg(unix)]
    let ignored: Vec<libc::c_int> = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP]
        .into_iter()
        .filter(|&s| is_ignored(s))
        .collect();
    ctrlc::set_handler(stop)?;
    #[cfg(unix)]
    for signal in ignored {
        // SAFETY: to ignore a signal needs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    Ok(())
}

#[cfg(unix)]
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeros is an action, and where the call succeeded it has been written.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
