//! `tfm convert`: writes a model with its weights in another type.

use crate::failure::Outcome;
use crate::options::WeightType;
use clap::Args;
use std::path::PathBuf;

/// Write a model with its weights in another type.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model's folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The folder to write; it is created if it is absent
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// How weights are stored; int8 takes a quarter of f32, and is what `translate --dtype int8`
    /// computes with
    #[arg(long, value_enum, default_value_t = WeightType::F32)]
    dtype: WeightType,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    Ok(tfm::convert(&arguments.model, &arguments.output, arguments.dtype.into())?)
}
