//! Whether there are a standard input and a standard output. Rust's runtime opens `/dev/null` in
//! place of those that are closed, and then results vanish, or nothing is read, without an error;
//! so they are looked at before.

#[cfg(any(target_os = "linux", target_os = "macos"))]
mod before_main {
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) static INPUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);
    pub(super) static OUTPUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

    #[used]
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
    #[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
    static LOOK: extern "C" fn() = look;

    extern "C" fn look() {
        for (descriptor, was_closed) in
            [(libc::STDIN_FILENO, &INPUT_WAS_CLOSED), (libc::STDOUT_FILENO, &OUTPUT_WAS_CLOSED)]
        {
            // SAFETY: asking for the flags of a descriptor, open or not, changes nothing.
            let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
            was_closed.store(flags == -1, Ordering::Relaxed);
        }
    }
}

/// Whether standard input was closed when the process started. On other systems it is never said
/// to be.
pub(crate) fn input_was_closed() -> bool {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    return before_main::INPUT_WAS_CLOSED.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    return false;
}

/// As [`input_was_closed`], of standard output.
pub(crate) fn output_was_closed() -> bool {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    return before_main::OUTPUT_WAS_CLOSED.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    return false;
}
