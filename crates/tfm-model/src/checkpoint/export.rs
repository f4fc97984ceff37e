//! Writing a model in the layout it is read from, which is Hugging Face's.

use super::elements::{ElementType, from_f32, not_finite};
use super::fault::Fault;
use super::files::{CONFIG, GENERATION, WEIGHTS};
use crate::config::{Config, GenerationDefaults};
use crate::error::{Error, Result};
use crate::names::{Stored, parameters};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tfm_core::ParameterSource;

/// Writes `config.json`, `generation_config.json` and `model.safetensors` to a folder, which is made if it
/// is not there. Weights are taken from `source` by our names, one at a time, and stored as
/// `element_type`, rounded to nearest; tied ones once, where the family's other readers tie them too.
///
/// The files are written under other names beside their places and renamed when all are whole, so that an
/// error leaves what was there before. (The renames themselves are three.)
///
/// # Errors
/// [`Error::Export`] if the family's files can't say what `config` says, or with all parameters that
/// `source` does not give, gives in another shape, or gives with numbers that are not finite when stored;
/// [`Error::Write`] if the operating system refuses.
pub fn export(
    folder: impl AsRef<Path>,
    config: &Config,
    generation: &GenerationDefaults,
    source: &dyn ParameterSource,
    element_type: ElementType,
) -> Result<()> {
    let folder = folder.as_ref();
    let refuse = |faults| Error::Export { place: folder.display().to_string(), faults };
    let [config_json, generation_json] = config.to_json(generation);
    check_says_all(config, generation, &config_json, &generation_json).map_err(refuse)?;

    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(|source| Error::Write {
        action: "make",
        path: folder.into(),
        source,
    })?;
    let result =
        write_files(folder, config, source, element_type, [&config_json, &generation_json]);
    if made && result.is_err() {
        // It is empty, for the files that were begun are gone.
        let _ = fs::remove_dir(folder);
    }
    result
}

fn write_files(
    folder: &Path,
    config: &Config,
    source: &dyn ParameterSource,
    element_type: ElementType,
    [config_json, generation_json]: [&str; 2],
) -> Result<()> {
    let weights = Aside::create(folder, WEIGHTS)?;
    let faults = write_weights(&weights, config, source, element_type)?;
    if !faults.is_empty() {
        return Err(Error::Export { place: folder.display().to_string(), faults });
    }
    let mut files = vec![weights];
    for (name, json) in [(CONFIG, config_json), (GENERATION, generation_json)] {
        let file = Aside::create(folder, name)?;
        (&file.file).write_all(json.as_bytes()).map_err(|source| file.failed("write", source))?;
        files.push(file);
    }
    for file in &files {
        file.file.sync_all().map_err(|source| file.failed("write", source))?;
    }
    files.into_iter().try_for_each(Aside::into_place)
}

/// The files of a family have no field for some things; what is read back must be what was written.
fn check_says_all(
    config: &Config,
    generation: &GenerationDefaults,
    config_json: &str,
    generation_json: &str,
) -> Result<(), Vec<Fault>> {
    let (read, settings) =
        Config::from_json(config_json.as_bytes(), Some(generation_json.as_bytes()))?;
    let mut faults = Vec::new();
    if read != *config {
        let family = config.family.model_type();
        let problem = format!(
            "a \"{family}\" model's file cannot say all of {config:?}; it would read as {read:?}"
        );
        faults.push(Fault::file(CONFIG, problem));
    }
    if settings != *generation {
        faults.push(Fault::file(GENERATION, format!("cannot say all of {generation:?}")));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// A tensor to write: its shape, and the parameters that lie in it one upon another.
struct Tensor {
    stored: Stored,
    parts: Vec<(String, Stored)>,
}

/// Writes all tensors; gives back what is wrong with them.
fn write_weights(
    file: &Aside,
    config: &Config,
    source: &dyn ParameterSource,
    element_type: ElementType,
) -> Result<Vec<Fault>> {
    let (tensors, mut faults) = tensors(config, source);
    let failed = |source| file.failed("write", source);
    let mut out = BufWriter::new(&file.file);
    out.write_all(&header(&tensors, element_type)).map_err(failed)?;
    for (name, tensor) in &tensors {
        let bytes = tensor_bytes(name, tensor, source, element_type, &mut faults);
        out.write_all(&bytes).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(faults)
}

/// The tensors of the file, by name. What files may leave out is left out where it is zero.
fn tensors(
    config: &Config,
    source: &dyn ParameterSource,
) -> (BTreeMap<String, Tensor>, Vec<Fault>) {
    let (mut tensors, mut faults) = (BTreeMap::<String, Tensor>::new(), Vec::new());
    for parameter in parameters(config) {
        let stored = parameter.stored;
        if stored.optional {
            match load(source, &parameter.name, parameter.shape.elements()) {
                Ok(values) if values.iter().all(|&value| value == 0.0) => continue,
                Ok(_) => {}
                // Said once, here; the tensor is not written.
                Err(problem) => {
                    faults.push(Fault::Parameter { name: parameter.name, problem });
                    continue;
                }
            }
        }
        for name in &stored.names[..stored.written] {
            let new = || Tensor { stored: stored.clone(), parts: Vec::new() };
            let tensor = tensors.entry(name.clone()).or_insert_with(new);
            tensor.parts.push((parameter.name.clone(), stored.clone()));
        }
    }
    (tensors, faults)
}

/// A parameter's elements, or what is wrong with it.
fn load(source: &dyn ParameterSource, name: &str, elements: usize) -> Result<Vec<f32>, String> {
    let tensor = source.load(name)?;
    let values = tensor.as_f32().ok_or_else(|| format!("is {}, not f32", tensor.dtype()))?;
    if values.len() != elements {
        let shape = tensor.shape();
        return Err(format!("has the shape {shape}, but {elements} elements are expected"));
    }
    Ok(values.to_vec())
}

fn tensor_bytes(
    name: &str,
    tensor: &Tensor,
    source: &dyn ParameterSource,
    element_type: ElementType,
    faults: &mut Vec<Fault>,
) -> Vec<u8> {
    let shape = &tensor.stored.shape;
    let row = shape.elements() / shape.first().copied().unwrap_or(1).max(1);
    let mut values = vec![0.0; shape.elements()];
    for (parameter, Stored { rows, .. }) in &tensor.parts {
        let rows = &mut values[rows.start * row..rows.end * row];
        match load(source, parameter, rows.len()) {
            Ok(part) => rows.copy_from_slice(&part),
            Err(problem) => faults.push(Fault::Parameter { name: parameter.clone(), problem }),
        }
    }
    let mut bytes = Vec::new();
    from_f32(element_type, &values, &mut bytes);
    let (nan, infinite) = not_finite(element_type, &bytes);
    if nan + infinite > 0 {
        let remedy = match element_type {
            ElementType::F16 => "f16 ends at 65504: store bf16 or f32",
            _ => "training had diverged: go back to an earlier checkpoint",
        };
        let (tensor, elements) = (name.into(), values.len());
        faults.push(Fault::NotFinite { tensor, nan, infinite, elements, remedy });
    }
    bytes
}

/// The length and the JSON that say where each tensor lies, filled up so that data starts at 8 bytes.
fn header(tensors: &BTreeMap<String, Tensor>, element_type: ElementType) -> Vec<u8> {
    let mut object = Map::new();
    // `transformers` asks for it.
    object.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut start = 0;
    for (name, tensor) in tensors {
        let shape = &tensor.stored.shape;
        let end = start + shape.elements() * element_type.size();
        let dtype = element_type.dtype().to_string();
        object.insert(
            name.clone(),
            json!({ "dtype": dtype, "shape": shape[..], "data_offsets": [start, end] }),
        );
        start = end;
    }
    let mut json = Value::Object(object).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes(), &json[..]].concat()
}

/// A file under another name beside its place. It is removed unless it gets there.
struct Aside {
    file: File,
    path: PathBuf,
    place: PathBuf,
}

impl Aside {
    fn create(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!(".{name}.{}.part", std::process::id()));
        match File::create(&path) {
            Ok(file) => Ok(Aside { file, path, place: folder.join(name) }),
            Err(source) => Err(Error::Write { action: "write", path, source }),
        }
    }

    fn into_place(self) -> Result<()> {
        fs::rename(&self.path, &self.place).map_err(|source| self.failed("rename", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::Write { action, path: self.path.clone(), source }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // In its place already, if all went well.
        let _ = fs::remove_file(&self.path);
    }
}
