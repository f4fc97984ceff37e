//! Writing a model in the layout it is read from, which is Hugging Face's.

use super::elements::ElementType;
use super::files::WEIGHTS;
use super::weights;
use crate::description::Description;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::json::{CONFIG, GENERATION};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tfm_core::ParameterSource;
use tfm_files::Aside;

/// Writes `config.json`, `generation_config.json` and `model.safetensors` to a folder, which is
/// made if it is not there. Weights are taken from `source` by our names, some rows at a time where
/// it gives them so, and stored as `element_type`, rounded to nearest; tied ones once, where the
/// family's other readers tie them too. With [`ElementType::I8`] that is so for what products and
/// embeddings multiply, as [`Precision::Int8`](tfm_core::fused::Precision::Int8) has it; the rest
/// is F32.
///
/// The files are written under other names beside their places and renamed when all are whole, so
/// that an error leaves what was there before. (The renames themselves are three.)
///
/// # Errors
/// [`Error::Export`] if the family's files can't say what `config` says, or with all parameters
/// that `source` does not give, gives in another shape, or gives with numbers that are not finite
/// when stored; [`Error::Write`] or [`Error::Files`] if the operating system refuses.
pub fn export(
    folder: impl AsRef<Path>,
    description: &Description,
    source: &dyn ParameterSource,
    element_type: ElementType,
) -> Result<()> {
    let folder = folder.as_ref();
    let refuse = |faults| Error::Export { place: folder.display().to_string(), faults };
    let [config_json, generation_json] = description.to_json();
    check_says_all(description, &config_json, &generation_json).map_err(refuse)?;

    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(|source| Error::Write {
        action: "make",
        path: folder.into(),
        source,
    })?;
    let result =
        write_files(folder, description, source, element_type, [&config_json, &generation_json]);
    if made && result.is_err() {
        // It is empty, for the files that were begun are gone.
        let _ = fs::remove_dir(folder);
    }
    result
}

fn write_files(
    folder: &Path,
    description: &Description,
    source: &dyn ParameterSource,
    element_type: ElementType,
    [config_json, generation_json]: [&str; 2],
) -> Result<()> {
    let (place, file) = aside(folder, WEIGHTS)?;
    let faults = weights::write(&file.file, description, source, element_type)
        .map_err(|source| failed(&place, source))?;
    if !faults.is_empty() {
        return Err(Error::Export { place: folder.display().to_string(), faults });
    }
    let mut files = vec![file];
    for (name, json) in [(CONFIG, config_json), (GENERATION, generation_json)] {
        let (place, file) = aside(folder, name)?;
        (&file.file).write_all(json.as_bytes()).map_err(|source| failed(&place, source))?;
        files.push(file);
    }
    Ok(files.into_iter().try_for_each(Aside::finish)?)
}

/// A file of the folder, under another name.
fn aside(folder: &Path, name: &str) -> Result<(PathBuf, Aside)> {
    let place = folder.join(name);
    let file = Aside::create(&place)?;
    Ok((place, file))
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Write { action: "write", path: path.into(), source }
}

/// The files of a family have no field for some things; what is read back must be what was written.
fn check_says_all(
    description: &Description,
    config_json: &str,
    generation_json: &str,
) -> Result<(), Vec<Fault>> {
    let Description { family, config, generation } = description;
    let read = Description::from_json(config_json.as_bytes(), Some(generation_json.as_bytes()))?;
    let mut faults = Vec::new();
    if read.config != *config {
        let (family, read) = (family.model_type(), &read.config);
        let problem = format!(
            "a \"{family}\" model's file cannot say all of {config:?}; it would read as {read:?}"
        );
        faults.push(Fault::file(CONFIG, problem));
    }
    if read.generation != *generation {
        faults.push(Fault::file(GENERATION, format!("cannot say all of {generation:?}")));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}
