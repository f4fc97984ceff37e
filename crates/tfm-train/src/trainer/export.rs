//! The trained model in Hugging Face's layout, with its tokeniser.

use super::measure::trained;
use super::prepare::Prepared;
use crate::checkpoint;
use crate::error::Result;
use crate::initial::Weights;
use crate::learner::average_name;
use std::collections::BTreeMap;
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
    export(folder, &prepared.description(), &source, ElementType::F32)?;
    Ok(copy_tokenizer(&prepared.tokenizer_folder, folder)?)
}

/// The mean of the trained parameters of checkpoints, or of their moving averages where those are
/// kept.
///
/// # Errors
/// A checkpoint that cannot be used, or that is of another model.
pub(super) fn mean(folders: &[PathBuf], prepared: &Prepared) -> Result<Weights> {
    let has_averages = prepared.method.average_decay.is_some();
    let names = prepared.learning.learnt.iter().map(|name| match has_averages {
        true => (average_name(name), name),
        false => (name.clone(), name),
    });
    let names: BTreeMap<String, &String> = names.collect();
    let averaged = checkpoint::average(folders, |name| names.contains_key(name))?;
    let tensors = averaged.into_iter().map(|tensor| {
        let values = Tensor::from_f32(tensor.shape, tensor.values)?;
        Ok((names[&tensor.name].clone(), values))
    });
    Ok(Weights(tensors.collect::<Result<_>>()?))
}
