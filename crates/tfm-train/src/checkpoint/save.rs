//! Writes a checkpoint, which appears complete or not at all.

use super::manifest::{Listed, Manifest};
use super::{MANIFEST, STATE, State, TENSORS, all, name};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A tensor of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct TrainingTensor<'a> {
    /// Its name: a parameter's, or the name of a moment or an average followed by the parameter's.
    pub name: &'a str,
    /// Its extents.
    pub shape: &'a [usize],
    /// Its elements, row by row.
    pub values: &'a [f32],
}

/// Writes `checkpoints/step-…` in the folder `output`, and returns its path. A checkpoint of the
/// same update is replaced. After an error nothing of the new one is left, and earlier ones are
/// unchanged.
///
/// # Errors
/// [`Error::Write`], which names a full disk; [`Error::Checkpoint`] if a tensor's shape does not
/// fit its elements or two tensors have one name.
pub fn save<'a>(
    output: &Path,
    state: &State,
    tensors: impl IntoIterator<Item = TrainingTensor<'a>>,
) -> Result<PathBuf> {
    save_with(output, state, &tensors.into_iter().collect::<Vec<_>>(), |path| File::create(path))
}

fn save_with(
    output: &Path,
    state: &State,
    tensors: &[TrainingTensor<'_>],
    create: fn(&Path) -> io::Result<File>,
) -> Result<PathBuf> {
    let folder = all(output);
    let place = folder.join(name(state.step));
    let refuse = |problem| Error::Checkpoint { place: place.display().to_string(), problem };
    let header = header(tensors).map_err(refuse)?;
    let state_json = serde_json::to_vec_pretty(state)
        .map_err(|error| refuse(format!("the state cannot be written: {error}")))?;

    fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
    let part = Part::create(&folder, state.step)?;
    let files = vec![
        part.write(TENSORS, create, |out| write_tensors(out, &header, tensors))?,
        part.write(STATE, create, |out| out.write_all(&state_json))?,
    ];
    let manifest = Manifest::new(state.step, files).to_json();
    part.write(MANIFEST, create, |out| out.write_all(manifest.as_bytes()))?;
    part.into_place(&place)?;
    Ok(place)
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Write { action, path: path.into(), source }
}

/// The length and the JSON that a safetensors file begins with.
fn header(tensors: &[TrainingTensor<'_>]) -> Result<Vec<u8>, String> {
    let (mut object, mut names, mut start) = (Map::new(), HashSet::new(), 0);
    for &TrainingTensor { name, shape, values } in tensors {
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements != Some(values.len()) {
            let found = values.len();
            return Err(format!("`{name}` has {found} elements, which is not its shape {shape:?}"));
        }
        if !names.insert(name) || name == "__metadata__" {
            return Err(format!("two tensors have the name `{name}`"));
        }
        let end = start + size_of_val(values);
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        object.insert(name.into(), entry);
        start = end;
    }
    let mut json = Value::Object(object).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes(), &json[..]].concat())
}

fn write_tensors(
    out: &mut dyn Write,
    header: &[u8],
    tensors: &[TrainingTensor<'_>],
) -> io::Result<()> {
    out.write_all(header)?;
    let mut bytes = Vec::new();
    for tensor in tensors {
        for values in tensor.values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// A folder under a temporary name beside its final place. It is removed unless it is moved there.
struct Part {
    path: PathBuf,
}

impl Part {
    fn create(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(format!(".{}.part", name(step)));
        // A killed program left it.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        }
        fs::create_dir(&path).map_err(failed("make", &path))?;
        Ok(Part { path })
    }

    /// Writes a file and flushes it to the disk.
    fn write(
        &self,
        name: &str,
        create: fn(&Path) -> io::Result<File>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Listed> {
        let path = self.path.join(name);
        let written = || {
            let file = BufWriter::with_capacity(1 << 17, create(&path)?);
            let mut out = Summed { file, checksum: crc32fast::Hasher::new(), bytes: 0 };
            write(&mut out)?;
            let file = out.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            Ok(Listed { name: name.into(), bytes: out.bytes, crc32: out.checksum.finalize() })
        };
        written().map_err(failed("write", &path))
    }

    fn into_place(self, place: &Path) -> Result<()> {
        sync_folder(&self.path)?;
        let old = place.exists().then(|| super::retention::set_aside(place)).transpose()?;
        fs::rename(&self.path, place).map_err(failed("rename", &self.path))?;
        place.parent().map_or(Ok(()), sync_folder)?;
        // A failure to remove the old one is no reason to stop: the next save removes it.
        old.map(fs::remove_dir_all);
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is in its place already, if nothing failed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Flushes the names in a folder to the disk.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

/// Other systems cannot open folders.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

/// Counts the bytes that pass through, and computes their checksum.
struct Summed {
    file: BufWriter<File>,
    checksum: crc32fast::Hasher,
    bytes: u64,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.checksum.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::data::Position;

    fn state(step: u64) -> State {
        State {
            step,
            position: Position::default(),
            seed: 1,
            data: 2,
            tokens: 3,
            seconds: 0.5,
            scores: Vec::new(),
            config: String::new(),
            program: "0".into(),
        }
    }

    #[test]
    fn a_full_disk_leaves_the_last_checkpoint_whole_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let values = vec![1.5; 100_000];
        let tensor = TrainingTensor { name: "a", shape: &[100_000], values: &values };
        save(folder.path(), &state(1), [tensor]).unwrap();
        // Every write to this device finds the disk full.
        let full = |_: &Path| File::options().write(true).open("/dev/full");
        let error = save_with(folder.path(), &state(2), &[tensor], full).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("training.safetensors") && error.contains("make room"), "{error}");
        let names: Vec<_> = fs::read_dir(all(folder.path())).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        super::super::load(&names[0].path()).unwrap();
    }
}
