//! A folder that is written under another name beside its destination.

use crate::aside::unique;
use crate::error::{Error, Result};
use crate::unfinished;
use std::fs;
use std::path::{Path, PathBuf};

/// A new folder `<name>.partial` beside its destination or, where that is there already, in it. Its
/// files get to their places by [`FolderStage::finish`]; it is removed if it is dropped before.
#[derive(Debug)]
pub struct FolderStage {
    path: PathBuf,
    destination: PathBuf,
}

impl FolderStage {
    /// Makes the folder, and those above it.
    ///
    /// # Errors
    /// [`Error::Write`], also if the destination is there and no folder.
    pub fn create(destination: &Path) -> Result<Self> {
        let failed = |source| Error::write(destination, source);
        if fs::metadata(destination).is_ok_and(|found| !found.is_dir()) {
            return Err(failed(std::io::ErrorKind::NotADirectory.into()));
        }
        let aside = if destination.exists() { destination.join("new") } else { destination.into() };
        if let Some(parent) = aside.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let (path, ()) = unique(&aside, |path| fs::create_dir(path))?;
        unfinished::begin(&path, unfinished::Kind::Folder);
        Ok(FolderStage { path, destination: destination.into() })
    }

    /// Where to write the files.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the files to their places: all at once where the destination is not there, else one
    /// after the other, each in place of the file that has its name.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(self) -> Result<()> {
        let failed = |source| Error::write(&self.destination, source);
        unfinished::end(&self.path);
        if !self.destination.exists() && fs::rename(&self.path, &self.destination).is_ok() {
            return Ok(());
        }
        fs::create_dir_all(&self.destination).map_err(failed)?;
        for file in fs::read_dir(&self.path).map_err(failed)? {
            let file = file.map_err(failed)?;
            let place = self.destination.join(file.file_name());
            fs::rename(file.path(), &place).map_err(|source| Error::write(&place, source))?;
        }
        Ok(())
    }
}

impl Drop for FolderStage {
    fn drop(&mut self) {
        unfinished::end(&self.path);
        // It is not there any more if it was renamed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::FolderStage;
    use std::fs;

    #[test]
    fn files_arrive_together_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/model");
        for content in ["first", "second"] {
            let stage = FolderStage::create(&place).unwrap();
            fs::write(stage.path().join("a"), content).unwrap();
            drop(FolderStage::create(&place).unwrap());
            stage.finish().unwrap();
            assert_eq!(fs::read_to_string(place.join("a")).unwrap(), content);
            fs::write(place.join("other"), "stays").unwrap();
        }
        assert_eq!(fs::read_to_string(place.join("other")).unwrap(), "stays");
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
        assert!(FolderStage::create(&place.join("a")).is_err(), "a file is no folder");
    }
}
