//! Converts and averages models on disk.

use crate::Result;
use std::path::Path;
use tfm_core::ParameterSource;
use tfm_files::{FolderStage, refuse_inputs};
use tfm_model::Checkpoint;
use tfm_model::checkpoint::{ElementType, Mean, export};

/// Writes the model in the folder `from`, with its tokeniser, to the folder `to`, and stores its
/// weights as `element_type`.
///
/// Where `to` is not there yet it appears complete; else each of its files is replaced completely.
///
/// # Errors
/// Faults of the model; `to` is `from`, under whatever name; a file that cannot be written.
pub fn convert(from: &Path, to: &Path, element_type: ElementType) -> Result<()> {
    refuse_inputs(to, [from])?;
    let checkpoint = Checkpoint::open(from)?;
    write(&checkpoint, &checkpoint, from, to, element_type)
}

/// Writes the mean of the models in these folders, with the tokeniser of the first. The models must
/// come from one training, or at least have begun with the same weights: the mean of others makes
/// no sense.
///
/// # Errors
/// Faults of a model; models of different shapes; `to` is one of `from`, under whatever name; a
/// file that cannot be written.
///
/// # Panics
/// If `from` is empty.
pub fn average(from: &[&Path], to: &Path, element_type: ElementType) -> Result<()> {
    refuse_inputs(to, from.iter().copied())?;
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
    let stage = FolderStage::create(to)?;
    export(stage.path(), model.description(), weights, element_type)?;
    tfm_text::copy_tokenizer(from, stage.path())?;
    Ok(stage.finish()?)
}
