//! What the graphs read as parameters: the checkpoint's tensors, and the position tables that a
//! checkpoint does not hold.

use crate::checkpoint::Checkpoint;
use crate::transformer::positions::{computed, computed_shape};
use half::{bf16, f16};
use std::sync::Arc;
use tfm_core::{DType, ParameterSource, RowSource, Tensor, TensorData};

/// The parameters of a model, for its sessions.
pub struct Parameters {
    checkpoint: Arc<Checkpoint>,
    dtype: DType,
}

impl Parameters {
    /// The parameters of this checkpoint, in `F32`.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Self::of_type(checkpoint, DType::F32)
    }

    /// The parameters of this checkpoint for a model that is computed in a float type:
    /// [`Numerics::dtype`](crate::Numerics).
    pub fn of_type(checkpoint: Arc<Checkpoint>, dtype: DType) -> Self {
        Parameters { checkpoint, dtype }
    }
}

impl ParameterSource for Parameters {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        let tensor = match computed(self.checkpoint.config(), name) {
            Some(table) => table,
            None => self.checkpoint.tensor(name).map_err(|error| error.to_string())?,
        };
        Ok(rounded(tensor, self.dtype))
    }

    fn rows<'a>(&'a self, name: &str) -> Result<Option<Box<dyn RowSource + 'a>>, String> {
        if self.dtype != DType::F32 || computed_shape(self.checkpoint.config(), name).is_some() {
            return Ok(None);
        }
        self.checkpoint.rows(name)
    }
}

/// A tensor of `F32` in another float type.
fn rounded(tensor: Tensor, dtype: DType) -> Tensor {
    let Some(values) = tensor.as_f32().filter(|_| dtype != DType::F32) else { return tensor };
    let values = values.iter().copied();
    let data = match dtype {
        DType::F16 => TensorData::F16(values.map(f16::from_f32).collect()),
        _ => TensorData::BF16(values.map(bf16::from_f32).collect()),
    };
    Tensor::new(tensor.shape().clone(), data).expect("as many elements as before")
}
