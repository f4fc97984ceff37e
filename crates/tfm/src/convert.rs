//! Models on disk made from models on disk.

use crate::Result;
use std::path::Path;
use tfm_core::ParameterSource;
use tfm_model::Checkpoint;
use tfm_model::checkpoint::{ElementType, Mean, export};

/// Writes the model in the folder `from`, with its tokeniser, to the folder `to`, its weights stored as
/// `element_type`.
///
/// # Errors
/// What is wrong with the model; what cannot be written.
pub fn convert(from: &Path, to: &Path, element_type: ElementType) -> Result<()> {
    let checkpoint = Checkpoint::open(from)?;
    write(&checkpoint, &checkpoint, from, to, element_type)
}

/// Writes the mean of the models in these folders, with the tokeniser of the first. They are of one
/// training, or at least of one beginning: the mean of others makes no sense.
///
/// # Errors
/// What is wrong with a model; models of different shapes; what cannot be written.
pub fn average(from: &[&Path], to: &Path, element_type: ElementType) -> Result<()> {
    let checkpoints = from.iter().map(Checkpoint::open).collect::<Result<_, _>>()?;
    let names: Vec<String> = from.iter().map(|folder| folder.display().to_string()).collect();
    let mean = Mean::new(checkpoints, &names)?;
    write(mean.first(), &mean, from[0], to, element_type)
}

fn write(
    model: &Checkpoint,
    weights: &dyn ParameterSource,
    from: &Path,
    to: &Path,
    element_type: ElementType,
) -> Result<()> {
    export(to, model.description(), weights, element_type)?;
    Ok(tfm_text::copy_tokenizer(from, to)?)
}
