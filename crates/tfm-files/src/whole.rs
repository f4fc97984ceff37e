//! Reads and writes small files whole.

use crate::aside::Aside;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// The content of a regular file of at most `most` bytes.
///
/// # Errors
/// The operating system's; that it is a folder, a pipe or a device, which is not opened; that it is
/// larger; that it is a pointer of Git LFS in place of the file.
pub fn read_whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before opening, for opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        let problem = format!("it has more than {most} bytes, the most for such a file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    match lfs_pointer(&content) {
        Some(problem) => Err(io::Error::other(problem)),
        None => Ok(content),
    }
}

/// What is wrong with a file that is a pointer of Git LFS, and what to do.
#[must_use]
pub fn lfs_pointer(content: &[u8]) -> Option<&'static str> {
    content.starts_with(b"version https://git-lfs.github.com/spec/v1").then_some(
        "it is a pointer of Git LFS and not the file itself; run `git lfs pull` in its repository",
    )
}

/// Writes a file, completely or not at all.
///
/// # Errors
/// [`Error::Write`]; then the file is what it was.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let mut aside = Aside::create(path)?;
    aside.file.write_all(content).map_err(|source| Error::write(path, source))?;
    aside.finish()
}

#[cfg(test)]
mod tests {
    use super::{read_whole, write_whole};

    #[test]
    fn what_is_written_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for content in ["first", "second"] {
            write_whole(&path, content.as_bytes()).unwrap();
            assert_eq!(read_whole(&path, 10).unwrap(), content.as_bytes());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(folder.path(), b"").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_too_large_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_whole(&path, 5).unwrap(), b"12345");
        assert!(read_whole(&path, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        assert!(read_whole(folder.path(), 4).is_err());
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid …").unwrap();
        assert!(read_whole(&path, 100).unwrap_err().to_string().contains("`git lfs pull`"));
        #[cfg(unix)]
        assert!(read_whole("/dev/zero".as_ref(), 4).is_err());
    }
}
