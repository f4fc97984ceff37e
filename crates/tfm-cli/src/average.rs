//! `tfm average`: writes the mean of several models.

use crate::failure::Outcome;
use crate::options::WeightType;
use clap::Args;
use std::path::{Path, PathBuf};

/// Write the mean of several models of one training.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The models' folders
    #[arg(value_name = "MODEL", required = true, num_args = 1..)]
    models: Vec<PathBuf>,
    /// The folder to write; it is created if it is absent
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// How weights are stored
    #[arg(long, value_enum, default_value_t = WeightType::F32)]
    dtype: WeightType,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let models: Vec<&Path> = arguments.models.iter().map(PathBuf::as_path).collect();
    Ok(tfm::average(&models, &arguments.output, arguments.dtype.into())?)
}
