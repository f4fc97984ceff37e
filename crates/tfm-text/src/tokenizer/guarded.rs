//! Calls of the `tokenizers` library, which panics on some broken files.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in such a call.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs the library. A panic in it becomes a message, and prints nothing.
pub(super) fn guarded<T, E: ToString>(run: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    silence();
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(before);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizers library panicked: the file contradicts itself".into()),
    }
}

/// Has panics of these calls print nothing, and all others what they have printed before.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_message() {
        let panics = || -> Result<(), String> { panic!("the test asks for it") };
        assert!(guarded(panics).unwrap_err().contains("contradicts itself"));
        assert!(!GUARDED.get());
        assert_eq!(guarded(|| Err::<(), _>("no")), Err("no".into()));
        assert_eq!(guarded(|| Ok::<_, String>(7)), Ok(7));
    }
}
