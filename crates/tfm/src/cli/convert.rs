//! `tfm convert` and `tfm average`: models in, a model out.

use super::args::{Average, Convert, WeightType};
use super::failure::Outcome;
use std::path::Path;
use tfm::ElementType;

/// `tfm convert`.
pub(crate) fn convert(arguments: &Convert) -> Outcome {
    Ok(tfm::convert(&arguments.model, &arguments.output, arguments.dtype.into())?)
}

/// `tfm average`.
pub(crate) fn average(arguments: &Average) -> Outcome {
    let models: Vec<&Path> = arguments.models.iter().map(|model| model.as_path()).collect();
    Ok(tfm::average(&models, &arguments.output, arguments.dtype.into())?)
}

impl From<WeightType> for ElementType {
    fn from(weights: WeightType) -> Self {
        match weights {
            WeightType::F32 => ElementType::F32,
            WeightType::F16 => ElementType::F16,
            WeightType::Bf16 => ElementType::BF16,
            WeightType::Int8 => ElementType::I8,
        }
    }
}
