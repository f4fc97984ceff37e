//! The list of a checkpoint's files, with their lengths and checksums.

use serde::{Deserialize, Serialize};

const FORMAT: &str = "tfm-training";
const VERSION: u32 = 1;

/// The largest manifest that is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 16;

/// The list of a checkpoint's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Updates done.
    pub step: u64,
    files: Vec<Listed>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

impl Manifest {
    pub(super) fn new(step: u64, files: Vec<Listed>) -> Self {
        Manifest { format: FORMAT.into(), version: VERSION, step, files }
    }

    /// The manifest of files with these names and bytes.
    pub fn of(step: u64, files: &[(&str, &[u8])]) -> Self {
        let listed = |&(name, bytes): &(&str, &[u8])| Listed {
            name: name.into(),
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(bytes),
        };
        Manifest::new(step, files.iter().map(listed).collect())
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        // A struct of strings and integers always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads the file, or says why it cannot be used.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let malformed = |error| format!("manifest.json is not what it should be: {error}");
        let head: Head = serde_json::from_slice(json).map_err(malformed)?;
        if head.format != FORMAT {
            return Err(
                "manifest.json is not that of a tfm training: give a folder step-… of one".into()
            );
        }
        if head.version != VERSION {
            return Err(format!(
                "it has version {} of the format, but this program knows version {VERSION}: go on with the program that wrote it",
                head.version
            ));
        }
        serde_json::from_slice(json).map_err(malformed)
    }

    /// The length and checksum of a file.
    pub(super) fn file(&self, name: &str) -> Result<&Listed, String> {
        let file = self.files.iter().find(|file| file.name == name);
        file.ok_or_else(|| format!("manifest.json does not list {name}"))
    }
}

impl Listed {
    pub(super) fn check_length(&self, found: u64) -> Result<(), String> {
        let Listed { name, bytes, .. } = self;
        match found {
            same if same == *bytes => Ok(()),
            less if less < *bytes => {
                Err(format!("{name} is cut short: it has {less} bytes, but {bytes} were written"))
            }
            more => Err(format!("{name} has {more} bytes, but {bytes} were written")),
        }
    }

    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        self.check_length(bytes.len() as u64)?;
        match crc32fast::hash(bytes) == self.crc32 {
            true => Ok(()),
            false => Err(format!("{} is damaged: its checksum is wrong", self.name)),
        }
    }
}
