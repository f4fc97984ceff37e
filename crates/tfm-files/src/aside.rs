//! A file that is written under another name beside its destination.

use crate::error::{Error, Result};
use crate::unfinished;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How many names are tried. So many partial files are there only if something else is wrong.
const MOST_NAMES: u32 = 10_000;

/// A new file `<name>.partial` beside its destination. It gets its name by [`Aside::finish`], and
/// is removed if it is dropped before.
///
/// It is always made anew: where that name is taken, by a file or by a link, it is
/// `<name>.2.partial`, and so on.
#[derive(Debug)]
pub struct Aside {
    /// The file, open for writing.
    pub file: File,
    path: PathBuf,
    destination: PathBuf,
    keeps: bool,
}

impl Aside {
    /// Makes the file.
    ///
    /// # Errors
    /// [`Error::Write`], naming the destination, also where that is a folder.
    pub fn create(destination: &Path) -> Result<Self> {
        if destination.is_dir() {
            return Err(Error::write(destination, io::ErrorKind::IsADirectory.into()));
        }
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let (path, file) = unique(destination, create)?;
        unfinished::begin(&path, unfinished::Kind::File);
        Ok(Aside { file, path, destination: destination.into(), keeps: false })
    }

    /// Its name until it is finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes the file to the disk and gives it its name, in place of a file that has it.
    ///
    /// # Errors
    /// [`Error::Write`]; then the destination is what it was.
    pub fn finish(mut self) -> Result<()> {
        let failed = |source| Error::write(&self.destination, source);
        if let Ok(old) = fs::metadata(&self.destination) {
            // Where the system refuses, the file is still whole.
            let _ = self.file.set_permissions(old.permissions());
        }
        self.file.sync_all().map_err(failed)?;
        unfinished::end(&self.path);
        fs::rename(&self.path, &self.destination).map_err(failed)?;
        self.keeps = true;
        Ok(())
    }

    /// Leaves the file under the name that it has, which is returned.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.keeps = true;
        self.path.clone()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        unfinished::end(&self.path);
        if !self.keeps {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes something beside `destination`, under the first name that is free.
pub(crate) fn unique<T>(
    destination: &Path,
    create: impl Fn(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T)> {
    let name = destination.file_name().unwrap_or_default();
    for number in 1..=MOST_NAMES {
        let mut aside = OsString::from(name);
        aside.push(if number == 1 { ".partial".into() } else { format!(".{number}.partial") });
        let path = destination.with_file_name(aside);
        match create(&path) {
            Ok(made) => return Ok((path, made)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::write(destination, error)),
        }
    }
    let problem = format!("there are {MOST_NAMES} partial files beside it; remove them");
    Err(Error::write(destination, io::Error::other(problem)))
}

#[cfg(test)]
mod tests {
    use super::Aside;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_name_that_is_taken_is_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(folder.path().join("out.partial"), "kept").unwrap();
        let [mut first, mut second] = [(); 2].map(|()| Aside::create(&path).unwrap());
        assert!(
            first.path().ends_with("out.2.partial") && second.path().ends_with("out.3.partial")
        );
        first.file.write_all(b"first").unwrap();
        second.file.write_all(b"second").unwrap();
        second.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        first.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        drop(Aside::create(&path).unwrap());
        assert_eq!(fs::read_to_string(folder.path().join("out.partial")).unwrap(), "kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("out"), folder.path().join("other"));
        for name in ["out.partial", "out.2.partial"] {
            std::os::unix::fs::symlink(&other, folder.path().join(name)).unwrap();
            fs::write(&other, "whole").unwrap();
            let mut aside = Aside::create(&path).unwrap();
            aside.file.write_all(b"new").unwrap();
            aside.finish().unwrap();
            assert_eq!(fs::read_to_string(&other).unwrap(), "whole");
            fs::remove_file(&other).unwrap(); // the next link dangles when it is met
        }
        drop(Aside::create(&path).unwrap());
        assert!(!other.exists());
    }
}
