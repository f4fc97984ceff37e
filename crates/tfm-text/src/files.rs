//! The files of a tokeniser: in a folder, or in memory.

use crate::Error;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tfm_files::{read_whole, write_whole};

/// The most bytes of such a file.
const LARGEST: u64 = 1 << 28;

/// The files that a tokeniser can consist of.
const NAMES: [&str; 7] = [
    "source.spm",
    "target.spm",
    "vocab.json",
    "target_vocab.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "spiece.model",
];

/// Copies the tokeniser of one model's folder to another's. Each file is there whole or not at all.
///
/// # Errors
/// [`Error::Io`] or [`Error::Files`], naming the file.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Error> {
    for name in NAMES {
        let file = Files::Folder(from.to_owned());
        let Some(content) = file.read(name)? else { continue };
        write_whole(&to.join(name), &content)?;
    }
    Ok(())
}

/// A set of named files.
///
/// A model directory on disk and a model embedded in the program (`include_bytes!`) load through
/// the same code.
#[derive(Debug, Clone)]
pub enum Files<'a> {
    /// The files of this folder.
    Folder(PathBuf),
    /// `(name, content)` pairs.
    Memory(&'a [(&'a str, &'a [u8])]),
}

impl Files<'_> {
    /// The content of `name`, or `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file is there but cannot be read, is no regular file, is a pointer of
    /// Git LFS, or is larger than any tokeniser.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>, Error> {
        match self {
            Files::Folder(folder) => match read_whole(&folder.join(name), LARGEST) {
                Ok(content) => Ok(Some(Cow::Owned(content))),
                // A link that leads nowhere is there, and is a fault.
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && folder.join(name).symlink_metadata().is_err() =>
                {
                    Ok(None)
                }
                Err(source) => Err(Error::Io { file: self.display(name), source }),
            },
            Files::Memory(files) => Ok(files
                .iter()
                .find(|(given, _)| *given == name)
                .map(|(_, content)| Cow::Borrowed(*content))),
        }
    }

    /// Like [`read`](Self::read), but an absent file is an error that carries `remedy`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Missing`].
    pub fn require(&self, name: &str, remedy: &str) -> Result<Cow<'_, [u8]>, Error> {
        self.read(name)?
            .ok_or_else(|| Error::Missing { file: self.display(name), remedy: remedy.into() })
    }

    /// The name of the file `name` in messages: its path, or its bare name if it lives in memory.
    #[must_use]
    pub fn display(&self, name: &str) -> String {
        match self {
            Files::Folder(folder) => folder.join(name).display().to_string(),
            Files::Memory(_) => name.to_owned(),
        }
    }
}
