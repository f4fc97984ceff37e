//! Converts and averages models on disk.

use crate::Result;
use std::path::Path;
use tfm_core::ParameterSource;
use tfm_model::Checkpoint;
use tfm_model::checkpoint::{ElementType, Mean, export};

/// Writes the model in the folder `from`, with its tokeniser, to the folder `to`, and stores its
/// weights as `element_type`.
///
/// # Errors
/// Faults of the model; a file that cannot be written.
pub fn convert(from: &Path, to: &Path, element_type: ElementType) -> Result<()> {
    let checkpoint = Checkpoint::open(from)?;
    write(&checkpoint, &checkpoint, from, to, element_type)
}

/// Writes the mean of the models in these folders, with the tokeniser of the first. The models must
/// come from one training, or at least have begun with the same weights: the mean of others makes
/// no sense.
///
/// # Errors
/// Faults of a model; models of different shapes; a file that cannot be written.
///
/// # Panics
/// If `from` is empty.
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
