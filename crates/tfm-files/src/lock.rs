//! Keeps a second process out of a folder.

use crate::error::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::path::Path;

/// The file that is locked. It stays: to remove it would let two processes lock two files.
const NAME: &str = ".lock";

/// A folder in which no other process works while this lives. The operating system gives it free
/// when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process, or this one, has locked it; [`Error::Write`].
    pub fn acquire(folder: &Path) -> Result<Self> {
        let failed = |source| Error::write(folder, source);
        fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(NAME);
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { folder: folder.into() }),
            // Some network file systems have no locks; there nobody is kept out.
            Err(TryLockError::Error(_)) => Ok(FolderLock { _file: file }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FolderLock;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path()).unwrap();
        let error = FolderLock::acquire(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is in use by another process"), "{error}");
        drop(first);
        FolderLock::acquire(folder.path()).unwrap();
    }
}
