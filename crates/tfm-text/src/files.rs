//! The files of a tokeniser: in a folder, or in memory.

use std::{
    borrow::Cow,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{Error, read_regular};

/// The largest file of a tokeniser that is read. The largest there are have some ten million bytes.
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

/// Copies the tokeniser of one model's folder to another's. Each file is written under another name
/// and then renamed.
///
/// # Errors
/// [`Error::Io`] or [`Error::Write`], naming the file.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Error> {
    for name in NAMES {
        let file = Files::Folder(from.to_owned());
        let Some(content) = file.read(name)? else { continue };
        let aside = to.join(format!(".{name}.{}.part", std::process::id()));
        let written = fs::write(&aside, content).and_then(|()| fs::rename(&aside, to.join(name)));
        if let Err(source) = written {
            let _ = fs::remove_file(&aside);
            let file = to.join(name).display().to_string();
            return Err(Error::Write { file, source });
        }
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
    /// Git LFS, or has more than 256 MiB.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>, Error> {
        match self {
            Files::Folder(folder) => match read_regular(&folder.join(name), LARGEST) {
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

    /// The name of the file `name` in messages: its path, or its bare name if it lives in memory.
    #[must_use]
    pub fn display(&self, name: &str) -> String {
        match self {
            Files::Folder(folder) => folder.join(name).display().to_string(),
            Files::Memory(_) => name.to_owned(),
        }
    }
}
