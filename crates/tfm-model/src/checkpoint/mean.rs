//! The mean of checkpoints of one training ("Attention is all you need", section 6.1).

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::fault::Fault;
use tfm_core::{ParameterSource, Tensor};

/// Checkpoints of one model, whose parameters are averaged as they are read.
#[derive(Debug)]
pub struct Mean(Vec<Checkpoint>);

impl Mean {
    /// The mean of these, of which there is at least one; `names` are what errors call them.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for one that is of another shape than the first.
    pub fn new(checkpoints: Vec<Checkpoint>, names: &[String]) -> Result<Self> {
        let mut others = checkpoints.iter().zip(names).skip(1);
        if let Some((_, name)) =
            others.find(|(other, _)| other.description != checkpoints[0].description)
        {
            let problem = format!("describes another model than that of {}", names[0]);
            let faults = vec![Fault::file("config.json", problem)];
            return Err(Error::Checkpoint { place: name.clone(), faults });
        }
        Ok(Mean(checkpoints))
    }

    /// The first of the checkpoints.
    pub fn first(&self) -> &Checkpoint {
        &self.0[0]
    }
}

impl ParameterSource for Mean {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        let mut sum: Vec<f64> = Vec::new();
        let mut shape = None;
        for checkpoint in &self.0 {
            let tensor = checkpoint.load(name)?;
            let values = tensor.to_f64();
            sum.resize(values.len(), 0.0);
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            shape = Some(tensor.shape().clone());
        }
        let count = self.0.len() as f64;
        let mean = sum.into_iter().map(|sum| (sum / count) as f32).collect();
        Tensor::from_f32(shape.unwrap_or_default(), mean).map_err(|error| error.to_string())
    }
}
