//! The trained model in Hugging Face's layout, with its tokeniser.

use super::measure::trained;
use super::prepare::Prepared;
use crate::checkpoint;
use crate::error::Result;
use crate::initial::Weights;
use std::path::{Path, PathBuf};
use tfm_core::Tensor;
use tfm_model::checkpoint::{ElementType, export};
use tfm_text::copy_tokenizer;

/// Writes the model with these weights, in f32, and its tokeniser's files.
///
/// # Errors
/// [`Error::Write`]; weights that are not finite.
pub(super) fn write(folder: &Path, weights: Weights, prepared: &Prepared) -> Result<()> {
    let source = trained(weights, prepared);
    export(folder, &prepared.config, &prepared.generation, &source, ElementType::F32)?;
    Ok(copy_tokenizer(&prepared.tokenizer_folder, folder)?)
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
