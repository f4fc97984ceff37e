//! Reads a checkpoint, and refuses an incomplete one.

use super::manifest::{self, Listed, Manifest};
use super::{MANIFEST, STATE, State, TENSORS};
use crate::error::{Error, Result};
use safetensors::Dtype;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tfm_core::Shape;
use tfm_model::checkpoint::{Entry, Header};

/// The largest `state.json` that is read, in bytes.
const LARGEST_STATE: u64 = 1 << 26;

/// A checkpoint in memory, checked.
#[derive(Debug)]
pub struct Loaded {
    /// Everything but the tensors.
    pub state: State,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    bytes: Vec<u8>,
}

/// Reads the checkpoint in a folder `step-…` and checks the length and the checksum of its files.
///
/// # Errors
/// [`Error::Checkpoint`] for a folder that is cut short, damaged, of another version or no
/// checkpoint at all; it names another checkpoint beside it that looks complete. [`Error::Read`] if
/// the operating system refuses.
pub fn load(folder: &Path) -> Result<Loaded> {
    load_alone(folder).map_err(|error| match (error, super::retention::another(folder)) {
        (Error::Checkpoint { place, problem }, Some(other)) => {
            let problem = format!("{problem}. {} looks whole", other.display());
            Error::Checkpoint { place, problem }
        }
        (error, _) => error,
    })
}

pub(super) fn load_alone(folder: &Path) -> Result<Loaded> {
    let manifest = read_manifest(folder)?;
    let refuse = |problem| refused(folder, problem);
    let file = |name, largest| {
        let listed = manifest.file(name).map_err(refuse)?;
        read_listed(folder, listed, largest)
    };
    let (state, tensors) = (file(STATE, LARGEST_STATE)?, file(TENSORS, u64::MAX)?);
    Loaded::checked(&manifest, &state, tensors).map_err(refuse)
}

/// Checks that a checkpoint's files exist and have their lengths, without reading them.
pub(super) fn inspect(folder: &Path) -> Result<()> {
    let manifest = read_manifest(folder)?;
    for name in [STATE, TENSORS] {
        let listed = manifest.file(name).map_err(|problem| refused(folder, problem))?;
        let length = open(folder, name)?.1;
        listed.check_length(length).map_err(|problem| refused(folder, problem))?;
    }
    Ok(())
}

fn refused(folder: &Path, problem: String) -> Error {
    Error::Checkpoint { place: folder.display().to_string(), problem }
}

/// A file of the folder, and its length.
fn open(folder: &Path, name: &str) -> Result<(File, u64)> {
    let path = folder.join(name);
    let opened = File::open(&path).and_then(|file| {
        let length = file.metadata()?.len();
        Ok((file, length))
    });
    opened.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => refused(folder, format!("{name} is missing")),
        _ => Error::Read { path, source },
    })
}

fn read_manifest(folder: &Path) -> Result<Manifest> {
    let (file, length) = open(folder, MANIFEST)?;
    if length > manifest::LARGEST {
        return Err(refused(folder, format!("manifest.json has {length} bytes, too many for one")));
    }
    let bytes = read(folder, MANIFEST, file, length)?;
    Manifest::read(&bytes).map_err(|problem| refused(folder, problem))
}

fn read_listed(folder: &Path, listed: &Listed, largest: u64) -> Result<Vec<u8>> {
    let (file, length) = open(folder, &listed.name)?;
    // Before its bytes are in memory.
    listed.check_length(length).map_err(|problem| refused(folder, problem))?;
    if length > largest {
        let problem = format!("{} has {length} bytes; {largest} is the most", listed.name);
        return Err(refused(folder, problem));
    }
    read(folder, &listed.name, file, length)
}

/// The bytes of a file of that length.
fn read(folder: &Path, name: &str, file: File, length: u64) -> Result<Vec<u8>> {
    let failed = |source| Error::Read { path: folder.join(name), source };
    let mut bytes = Vec::new();
    let capacity = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(capacity).map_err(|error| failed(error.into()))?;
    // One byte more than expected, so that a file that still grows is noticed.
    file.take(length.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl Loaded {
    /// A checkpoint from the bytes of its three files.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], with `place` as the folder's name.
    pub fn from_files(
        place: &str,
        manifest: &[u8],
        state: &[u8],
        tensors: Vec<u8>,
    ) -> Result<Self> {
        let refuse = |problem| Error::Checkpoint { place: place.into(), problem };
        let manifest = Manifest::read(manifest).map_err(refuse)?;
        Self::checked(&manifest, state, tensors).map_err(refuse)
    }

    fn checked(manifest: &Manifest, state: &[u8], bytes: Vec<u8>) -> Result<Self, String> {
        manifest.file(STATE)?.check(state)?;
        manifest.file(TENSORS)?.check(&bytes)?;
        let state: State = serde_json::from_slice(state)
            .map_err(|error| format!("state.json is not what it should be: {error}"))?;
        if state.step != manifest.step {
            let (one, other) = (state.step, manifest.step);
            return Err(format!("state.json is of update {one}, but manifest.json of {other}"));
        }
        let header = Header::read(TENSORS, &bytes).map_err(|faults| {
            faults.first().map_or_else(|| format!("{TENSORS} has faults"), ToString::to_string)
        })?;
        let entries = header.tensors;
        if let Some(entry) = entries.iter().find(|entry| entry.dtype != Dtype::F32) {
            return Err(format!("{TENSORS}: `{}` is not f32", entry.name));
        }
        let named = |(index, entry): (usize, &Entry)| (entry.name.clone(), index);
        let by_name = entries.iter().enumerate().map(named).collect();
        Ok(Loaded { state, entries, by_name, bytes })
    }

    /// Names and shapes of its tensors, in the order in which they were saved.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &Shape)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), &entry.shape))
    }

    /// A tensor's shape and its elements, row by row.
    pub fn tensor(&self, name: &str) -> Option<(&Shape, Vec<f32>)> {
        let entry = &self.entries[*self.by_name.get(name)?];
        let (values, _) = self.bytes[entry.bytes.clone()].as_chunks::<4>();
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Some((&entry.shape, values))
    }
}
