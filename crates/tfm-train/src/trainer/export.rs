//! The trained model in Hugging Face's layout, with its tokeniser.

use super::measure::trained;
use super::prepare::Prepared;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::initial::Weights;
use std::fs;
use std::path::{Path, PathBuf};
use tfm_core::Tensor;
use tfm_model::checkpoint::{ElementType, export};

/// The files of a tokeniser.
const TOKENIZER_FILES: [&str; 7] = [
    "source.spm",
    "target.spm",
    "vocab.json",
    "target_vocab.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "spiece.model",
];

/// Writes the model with these weights, in f32, and its tokeniser's files.
///
/// # Errors
/// [`Error::Write`]; weights that are not finite.
pub(super) fn write(folder: &Path, weights: Weights, prepared: &Prepared) -> Result<()> {
    let source = trained(weights, prepared);
    export(folder, &prepared.config, &prepared.generation, &source, ElementType::F32)?;
    for name in TOKENIZER_FILES {
        let (from, to) = (prepared.tokenizer_folder.join(name), folder.join(name));
        if !from.exists() {
            continue;
        }
        let aside = folder.join(format!(".{name}.{}.part", std::process::id()));
        let failed = |action, path: &Path, source| Error::Write { action, path: path.into(), source };
        fs::copy(&from, &aside).map_err(|source| failed("write", &aside, source))?;
        fs::rename(&aside, &to).map_err(|source| failed("rename", &to, source))?;
    }
    Ok(())
}

/// The mean of the learnt parameters of checkpoints.
///
/// # Errors
/// A checkpoint that cannot be used, or that is of another model.
pub(super) fn mean(folders: &[PathBuf], prepared: &Prepared) -> Result<Weights> {
    let learnt = &prepared.learning.learnt;
    let averaged = checkpoint::average(folders, |name| learnt.contains(name))?;
    let tensors = averaged.into_iter().map(|tensor| {
        let values = Tensor::from_f32(tensor.shape, tensor.values)?;
        Ok((tensor.name, values))
    });
    Ok(Weights(tensors.collect::<Result<_>>()?))
}
