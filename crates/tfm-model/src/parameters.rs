//! What the graphs read as parameters: the checkpoint's tensors, and the position tables that a checkpoint
//! does not hold.

use crate::checkpoint::Checkpoint;
use crate::config::{Config, Positions};
use crate::transformer::positions::sinusoids;
use std::sync::Arc;
use tfm_core::{ParameterSource, Tensor};

/// The parameters of a model, for its sessions.
pub struct Parameters {
    checkpoint: Arc<Checkpoint>,
}

impl Parameters {
    /// The parameters of this checkpoint.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Parameters { checkpoint }
    }
}

impl ParameterSource for Parameters {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        match computed(self.checkpoint.config(), name) {
            Some(table) => Ok(table),
            None => self.checkpoint.tensor(name).map_err(|error| error.to_string()),
        }
    }
}

/// The parameter of that name, if it is one that is computed: a table of sinusoids.
pub fn computed(config: &Config, name: &str) -> Option<Tensor> {
    let Positions::Sinusoidal(layout) = config.positions else { return None };
    let (rows, d) = (config.max_positions, config.d_model);
    let table = || sinusoids(rows, d, layout);
    name.ends_with(".positions.weight").then(|| Tensor::from_f32([rows, d], table()).ok()).flatten()
}
