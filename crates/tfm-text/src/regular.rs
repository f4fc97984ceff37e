//! The files of a model as they are read from a disk: regular ones, whole, and none without end.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::path::Path;

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// The operating system's. A file that is longer; one that is no regular file, such as a pipe, a
/// device or a folder; a pointer of Git LFS in place of the file.
pub fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    // Before opening, for opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let length = metadata.len().max(bytes.len() as u64);
        return Err(Error::other(format!("it has {length} bytes; {most} is the most")));
    }
    match lfs_pointer(&bytes) {
        Some(problem) => Err(Error::other(problem)),
        None => Ok(bytes),
    }
}

/// What is wrong with a file that is a pointer of Git LFS, and what to do.
#[must_use]
pub fn lfs_pointer(bytes: &[u8]) -> Option<&'static str> {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/v1").then_some(
        "it is a pointer of Git LFS and not the file itself; run `git lfs pull` in its repository",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";

    #[test]
    fn files_that_are_too_long_or_no_files_are_refused() {
        let folder = std::env::temp_dir().join(format!("tfm-regular-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let problem = |most| read_regular(&path, most).unwrap_err().to_string();
        assert_eq!(problem(4), "it has 5 bytes; 4 is the most");
        let of_folder = read_regular(&folder, 5).unwrap_err().to_string();
        assert_eq!(of_folder, "it is not a regular file");
        std::fs::write(&path, POINTER).unwrap();
        assert!(problem(1 << 20).contains("`git lfs pull`"), "{}", problem(1 << 20));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_not_read() {
        for device in ["/dev/zero", "/dev/stdin"] {
            let refused = read_regular(Path::new(device), 5);
            assert!(device != "/dev/zero" || refused.is_err());
        }
    }
}
