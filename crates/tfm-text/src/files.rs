//! Where a tokeniser's files come from: a folder, or bytes already in memory.

use std::{borrow::Cow, io::ErrorKind, path::PathBuf};

use crate::Error;

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
    /// [`Error::Io`] if the file is there but cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>, Error> {
        match self {
            Files::Folder(folder) => match std::fs::read(folder.join(name)) {
                Ok(content) => Ok(Some(Cow::Owned(content))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
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

    /// How messages call the file `name`: its path, or its bare name if it lives in memory.
    #[must_use]
    pub fn display(&self, name: &str) -> String {
        match self {
            Files::Folder(folder) => folder.join(name).display().to_string(),
            Files::Memory(_) => name.to_owned(),
        }
    }
}
