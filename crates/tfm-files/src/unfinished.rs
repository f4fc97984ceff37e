//! What this process has begun to write and not finished.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What becomes of it where the process is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file, which is of no use before it is complete.
    File,
    /// A folder of such files.
    Folder,
    /// Results, of which each is of use.
    Results,
}

static UNFINISHED: Mutex<BTreeMap<PathBuf, Kind>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<PathBuf, Kind>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what is begun, or that it is of another kind.
pub(crate) fn begin(path: &Path, kind: Kind) {
    lock().insert(path.into(), kind);
}

/// Forgets what is about to get its name, or is gone.
pub(crate) fn end(path: &Path) {
    lock().remove(path);
}

/// Removes what this process has written and not finished, for a program that was asked to end.
/// Results stay, and their partial files are returned. No file gets its name after this: whoever
/// finishes one waits for the end of the process.
pub fn interrupt() -> Vec<PathBuf> {
    let mut unfinished = lock();
    let mut kept = Vec::new();
    for (path, kind) in std::mem::take(&mut *unfinished) {
        let has_results = || fs::metadata(&path).is_ok_and(|found| found.len() > 0);
        match kind {
            Kind::Results if has_results() => kept.push(path),
            // Where it cannot be removed it stays under a name that says what it is.
            Kind::Results | Kind::File => drop(fs::remove_file(&path)),
            Kind::Folder => drop(fs::remove_dir_all(&path)),
        }
    }
    std::mem::forget(unfinished);
    kept
}
