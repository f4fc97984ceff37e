//! Whether a model that is to be trained fits into memory.

use crate::error::{Error, Result};
use crate::report::available_memory;
use tfm_model::{Config, learnable};

/// What a training holds of each parameter at least, in bytes: it, and its gradient.
const BYTES: u64 = 8;

/// Checks that there may be enough memory to train a new model. Where the operating system does not
/// tell how much there is, nothing is checked.
///
/// # Errors
/// [`Error::Memory`].
pub(super) fn check(model: &Config) -> Result<()> {
    let Some(available) = available_memory() else { return Ok(()) };
    let elements = learnable(model).into_iter().map(|(_, shape)| shape.elements() as u64);
    let parameters = elements.fold(0, u64::saturating_add);
    let needed = parameters.saturating_mul(BYTES);
    match needed > available {
        true => Err(Error::Memory { parameters, needed, available }),
        false => Ok(()),
    }
}
