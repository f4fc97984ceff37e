//! What the graphs read as parameters: the checkpoint's tensors, and the position tables that a checkpoint
//! does not hold.

use crate::checkpoint::Checkpoint;
use crate::config::Positions;
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
        let config = self.checkpoint.config();
        if let (Positions::Sinusoidal(layout), true) =
            (config.positions, name.ends_with(".positions.weight"))
        {
            let (rows, d) = (config.max_positions, config.d_model);
            let table = sinusoids(rows, d, layout);
            return Tensor::from_f32([rows, d], table).map_err(|error| error.to_string());
        }
        self.checkpoint.tensor(name).map_err(|error| error.to_string())
    }
}
