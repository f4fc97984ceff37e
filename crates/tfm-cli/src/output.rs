//! Where results go. A file gets its name only when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Standard output, or a file that is written as `<file>.partial` and renamed by [`Sink::finish`].
pub(crate) struct Sink {
    writer: BufWriter<Box<dyn Write>>,
    /// The partial file, and its final name.
    aside: Option<(PathBuf, PathBuf)>,
}

impl Sink {
    /// Opens `path` (`-` is standard output) for writing, so that a file that cannot be written is
    /// reported before any work is done.
    ///
    /// # Errors
    /// The file cannot be created; the message names it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Sink { writer: BufWriter::new(Box::new(io::stdout())), aside: None });
        }
        let fault = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
        };
        // A link stays a link: its target is replaced.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_special = match fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(fault(io::ErrorKind::IsADirectory.into())),
            Ok(found) => !found.is_file(),
            Err(_) => false,
        };
        if is_special {
            let device = File::options().write(true).open(&target).map_err(fault)?;
            return Ok(Sink { writer: BufWriter::new(Box::new(device)), aside: None });
        }
        if target.exists() {
            // Refuse to replace a read-only file.
            File::options().append(true).open(&target).map_err(fault)?;
        }
        let mut aside = target.clone().into_os_string();
        aside.push(".partial");
        let aside = PathBuf::from(aside);
        let file = File::create(&aside).map_err(fault)?;
        Ok(Sink { writer: BufWriter::new(Box::new(file)), aside: Some((aside, target)) })
    }

    /// Writes one result and flushes it: the reader of a pipe sees it at once, and it is kept if
    /// the next one fails.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub(crate) fn write(&mut self, result: &str) -> io::Result<()> {
        self.writer.write_all(result.as_bytes())?;
        self.writer.flush()
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.writer.flush()?;
        match self.aside.take() {
            Some((aside, target)) => fs::rename(aside, target),
            None => Ok(()),
        }
    }

    /// Ends after a failure. Returns the partial file; an empty one is removed.
    pub(crate) fn abandon(mut self) -> Option<PathBuf> {
        // If flushing fails now, writing failed before: that error is already being reported.
        let _ = self.writer.flush();
        let (aside, _) = self.aside.take()?;
        let is_empty = fs::metadata(&aside).is_ok_and(|found| found.len() == 0);
        if is_empty && fs::remove_file(&aside).is_ok() { None } else { Some(aside) }
    }
}

#[cfg(test)]
mod tests {
    use super::Sink;
    use std::fs;

    #[test]
    fn a_file_takes_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "old").unwrap();
        let mut sink = Sink::open(&path).unwrap();
        sink.write("new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        sink.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_written_before_a_failure_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        assert_eq!(Sink::open(&path).unwrap().abandon(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut sink = Sink::open(&path).unwrap();
        sink.write("one\n").unwrap();
        let kept = sink.abandon().unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "one\n");
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_written_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Sink::open(folder.path()).is_err());
        let error = Sink::open(&folder.path().join("absent/out")).err().unwrap();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
    }
}
