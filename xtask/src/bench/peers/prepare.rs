//! Makes what the programs need before they run (packages, models, sources), once, in
//! `target/peers`.

use super::program::{OURS, SCRIPT};
use super::rows::{Mode, Model, Row};
use crate::project::{self, Outcome, read, root};
use crate::python;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const WORK: &str = "target/peers";
const BASE_SCRIPT: &str = "xtask/python/peers_base.py";
pub(in crate::bench) const BASE_SHAPE: &str = "xtask/python/base_shape.json";
/// Any tokeniser will do, since the sources of the base shape are ids.
const TOKENIZER: &str = "crates/tfm-text/tests/golden/learnt-unigram/source.spm";
/// The trained checkpoint's folder in the large test data.
pub(in crate::bench) const TRAINED: &str = "models/marian-tatoeba-en-fr";

/// Where everything lies.
pub(super) struct Places {
    pub(super) python: PathBuf,
    work: PathBuf,
    trained: Result<PathBuf, String>,
}

impl Places {
    /// Makes whatever is missing.
    pub(super) fn prepare(python: Option<&Path>) -> Outcome<Places> {
        let python = python.map_or_else(python::environment, |path| Ok(path.to_owned()))?;
        let package = ["build", "--release", "--locked", "--package", "tfm-benches", "--bin", OURS];
        project::run(project::cargo().args(package))?;
        let work = root().join(WORK);
        fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
        let trained = project::test_data().map(|data| data.join(TRAINED));
        let trained = trained.and_then(|folder| match folder.join("config.json").is_file() {
            true => Ok(folder),
            false => Err(format!("no {}", folder.display())),
        });
        let places = Places { python, work, trained };
        let base = places.work.join("base");
        let origin = read(BASE_SCRIPT)? + &read(BASE_SHAPE)?;
        made_once(&base, &origin, || {
            let mut make = Command::new(&places.python);
            make.current_dir(root()).args([BASE_SCRIPT, "--spm", TOKENIZER, "--out"]).arg(&base);
            project::run(&mut make)
        })?;
        Ok(places)
    }

    /// The checkpoint's folder; `None` where this machine does not have it.
    pub(super) fn model(&self, model: Model) -> Option<PathBuf> {
        match model {
            Model::Base => Some(self.work.join("base")),
            Model::Trained => self.trained.as_ref().ok().cloned(),
        }
    }

    /// Says why there is no trained checkpoint.
    pub(super) fn missing(&self) -> String {
        self.trained.as_ref().err().cloned().unwrap_or_default()
    }

    /// The checkpoint in CTranslate2's format.
    pub(super) fn converted(&self, model: Model, dtype: &str) -> Outcome<PathBuf> {
        let folder = self.model(model).ok_or_else(|| self.missing())?;
        let out = self.work.join(format!("ct2-{}-{dtype}", format!("{model:?}").to_lowercase()));
        let size = fs::metadata(folder.join("model.safetensors")).map_or(0, |file| file.len());
        let origin = format!(
            "{}, {size} bytes\n{}{}{}",
            folder.display(),
            read("xtask/python/requirements.txt")?,
            read(BASE_SCRIPT)?,
            read(BASE_SHAPE)?,
        );
        made_once(&out, &origin, || {
            let mut convert = Command::new(&self.python);
            convert.current_dir(root()).args([SCRIPT, "convert", "--dtype", dtype, "--model"]);
            project::run(convert.arg(&folder).arg("--out").arg(&out))
        })?;
        Ok(out)
    }

    /// The file with the sentences of a row.
    pub(super) fn input(&self, row: &Row) -> PathBuf {
        match (row.model, row.mode, &self.trained) {
            (Model::Trained, _, Ok(folder)) => folder.join("reference/source.en"),
            (_, Mode::Latency, _) => self.work.join("base/single.txt"),
            _ => self.work.join("base/sources.txt"),
        }
    }

    /// Our program, which is built first.
    pub(super) fn ours(&self) -> Outcome<PathBuf> {
        let xtask = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok(xtask.with_file_name(OURS))
    }

    /// The path for a program's translations.
    pub(super) fn output(&self, name: &str) -> PathBuf {
        self.work.join(format!("{name}.txt"))
    }

    /// Replaces the folder of the large test data in a text by the variable that names it.
    pub(super) fn without_data(&self, text: &str) -> String {
        match &self.trained {
            Ok(folder) => {
                text.replace(&*folder.to_string_lossy(), &format!("$TFM_TEST_DATA/{TRAINED}"))
            }
            Err(_) => text.to_owned(),
        }
    }
}

/// The path of a file that results are kept in.
pub(super) fn kept(name: &str) -> PathBuf {
    root().join(WORK).join(name)
}

/// A short name that depends on the content alone.
pub(super) fn fingerprint(content: &[u8]) -> String {
    Sha256::digest(content).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a folder, unless it exists and was made from the same origin.
fn made_once(folder: &Path, origin: &str, make: impl FnOnce() -> Outcome) -> Outcome {
    let (stamp, origin) = (folder.join("made-from"), fingerprint(origin.as_bytes()));
    if fs::read_to_string(&stamp).is_ok_and(|before| before == origin) {
        return Ok(());
    }
    println!("making {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    make()?;
    fs::write(&stamp, origin).map_err(|error| format!("{}: {error}", stamp.display()))
}
