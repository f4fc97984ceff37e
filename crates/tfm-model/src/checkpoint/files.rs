//! The files of a model: found in a folder and mapped, or given as bytes.

use super::header::{Entry, Header};
use super::index::{Index, LARGEST_INDEX};
use super::mmap;
use crate::fault::Fault;
use crate::json::{CONFIG, GENERATION};
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use tfm_files::read_whole;

pub(super) const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What older models have instead. It is a pickle: a program, which is not run.
const PICKLE: &str = "pytorch_model.bin";

/// The largest configuration that is read.
const LARGEST_CONFIG: u64 = 1 << 20;

/// The bytes of a file of weights.
#[derive(Debug)]
pub struct FileBytes(Source);

#[derive(Debug)]
enum Source {
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Mapped(map) => map,
            Source::Static(bytes) => bytes,
            Source::Owned(bytes) => bytes,
        }
    }
}

impl FileBytes {
    /// Says that these bytes have been read and won't be soon again.
    pub(super) fn release(&self, bytes: Range<usize>) {
        if let Source::Mapped(map) = &self.0 {
            mmap::release(map, bytes);
        }
    }
}

impl From<&'static [u8]> for FileBytes {
    fn from(bytes: &'static [u8]) -> Self {
        FileBytes(Source::Static(bytes))
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        FileBytes(Source::Owned(bytes))
    }
}

/// All tensors of a model's files, by name, and the bytes they lie in.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    pub(super) files: Vec<FileBytes>,
    /// What each of them is called.
    pub(super) names: Vec<String>,
    /// The number of the file, and the place in it.
    pub(super) by_name: HashMap<String, (usize, Entry)>,
    /// What is odd but harmless.
    pub(super) notes: Vec<String>,
}

impl Tensors {
    /// Maps the weights in a folder: one file, or the shards of an index. What is whole can be used
    /// even where there are faults.
    pub(super) fn open(folder: &Path, faults: &mut Vec<Fault>) -> Self {
        let mut tensors = Tensors::default();
        // As `transformers` does: where there are both, the single file is read.
        if folder.join(WEIGHTS).exists() {
            tensors.add_mapped(folder, WEIGHTS, None, faults);
        } else if folder.join(INDEX).exists() {
            tensors.open_shards(folder, faults);
        } else if folder.join(PICKLE).exists() {
            let remedy = "convert it with `save_pretrained` of `transformers`, which writes model.safetensors";
            faults.push(Fault::file(
                WEIGHTS,
                format!("is missing; there is only {PICKLE}: {remedy}"),
            ));
        } else {
            let problem =
                format!("is missing, and so is {INDEX}; the folder needs the model's weights");
            faults.push(Fault::file(WEIGHTS, problem));
        }
        tensors
    }

    fn open_shards(&mut self, folder: &Path, faults: &mut Vec<Fault>) {
        let Some(json) = read_at_most(folder, INDEX, LARGEST_INDEX, faults) else { return };
        match Index::read(INDEX, &json) {
            Ok(index) => {
                for (shard, names) in &index.shards {
                    self.add_mapped(folder, shard, Some(names), faults);
                }
            }
            Err(found) => faults.extend(found),
        }
    }

    fn add_mapped(
        &mut self,
        folder: &Path,
        name: &str,
        placed: Option<&[String]>,
        faults: &mut Vec<Fault>,
    ) {
        match mmap::map(&folder.join(name)) {
            Ok(map) => self.add(name, FileBytes(Source::Mapped(map)), placed, faults),
            Err(error) => faults.push(unreadable(name, &error)),
        }
    }

    /// Adds a file's tensors: all, or those that an index places in it.
    pub(super) fn add(
        &mut self,
        file: &str,
        bytes: FileBytes,
        placed: Option<&[String]>,
        faults: &mut Vec<Fault>,
    ) {
        let header = match Header::read(file, &bytes) {
            Ok(header) => header,
            Err(found) => return faults.extend(found),
        };
        let number = self.files.len();
        self.files.push(bytes);
        self.names.push(file.into());
        let mut expected: Option<HashSet<&str>> =
            placed.map(|names| names.iter().map(String::as_str).collect());
        for entry in header.tensors {
            if expected.as_mut().is_none_or(|expected| expected.remove(entry.name.as_str())) {
                self.by_name.insert(entry.name.clone(), (number, entry));
            } else {
                self.notes.push(format!(
                    "{file}: tensor `{}` is not in {INDEX} and is not read",
                    entry.name
                ));
            }
        }
        let mut absent: Vec<&str> = expected.into_iter().flatten().collect();
        absent.sort_unstable();
        let problem = || format!("should be in {file}, which does not have it");
        faults.extend(absent.into_iter().map(|name| Fault::entry(INDEX, name, problem())));
    }
}

/// Reads the configuration, and the generation settings where there are any.
pub(super) fn read_config(
    folder: &Path,
    faults: &mut Vec<Fault>,
) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let config = read_at_most(folder, CONFIG, LARGEST_CONFIG, faults);
    // A link that leads nowhere is there, and is a fault.
    let has_generation = folder.join(GENERATION).symlink_metadata().is_ok();
    let generation =
        has_generation.then(|| read_at_most(folder, GENERATION, LARGEST_CONFIG, faults));
    (config, generation.flatten())
}

/// A file of at most so many bytes.
fn read_at_most(folder: &Path, name: &str, most: u64, faults: &mut Vec<Fault>) -> Option<Vec<u8>> {
    let read = read_whole(&folder.join(name), most);
    read.map_err(|error| faults.push(unreadable(name, &error))).ok()
}

fn unreadable(name: &str, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::file(name, "is missing; a model's folder needs it"),
        _ => Fault::file(name, format!("cannot be read: {error}")),
    }
}
